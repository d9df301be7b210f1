"""Laws between what is said of a search: each is refused by `ValueError` where it is broken."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rigorl.schedules import SCHEDULE
from rigorl.searches.measure import PER_EXAM
from rigorl.searches.prune import Prune
from rigorl.space import Choice, Space

GENERATION = 4
"""Candidates of a generation, unless more or fewer are asked for."""
FEWEST = 4
"""Members of a population."""
POPULATION = 4
"""The fewest candidates of which CMA-ES learns anything."""
OF_MANY = ("nsga2", "nsga3", "motpe")
"""Samplers that are for several objectives; of the others, those of `OF_ANY` take them too."""
OF_ANY = ("tpe", "random", "grid", "gp", "qmc")


def check_population(
    sampler: str, candidates: int, prune: Prune | None, generation: int, space: Space
) -> None:
    if candidates < FEWEST:
        raise ValueError(
            f"a population must have {FEWEST} members, so that a quarter is somebody, but "
            f"candidates are {candidates}; ask for more"
        )
    if prune is not None:
        raise ValueError(
            f"a population must be whole, but prune would stop some of it early; drop prune: "
            f"{sampler} itself lets the worst go"
        )
    if generation != GENERATION:
        raise ValueError(
            f"generation must be left out with {sampler}, but is {generation}: all "
            "candidates are one population; drop it"
        )
    for name, over in space.items():
        if over.when:
            raise ValueError(
                f"settings must all count if they change in flight, but {name} counts only "
                f"`when` others have some values; drop `when`, or {name}, or take tpe"
            )
        if name == SCHEDULE:
            raise ValueError(
                f"{SCHEDULE} must not be a dimension of a population, for that is how its "
                "members are written down; take tpe, or rename the setting"
            )
    if sampler == "pb2" and all(isinstance(over, Choice) for over in space.values()):
        raise ValueError(
            "pb2 must have numbers to choose, but the space holds choices only; take pbt"
        )


def check_cmaes(space: Space, generation: int) -> None:
    for name, over in space.items():
        if isinstance(over, Choice) or over.when:
            raise ValueError(
                "cmaes must have numbers that always count, but "
                f"{name} {'hangs on another' if over.when else 'is a choice'}; "
                "write it as a number, or choose `sampler: tpe`"
            )
    if generation < POPULATION:
        raise ValueError(
            f"generation must be at least {POPULATION} with cmaes, whose population it is, but "
            f"is {generation}; raise it"
        )


def check_objectives(
    maximise: Sequence[str], sampler: str, generation: int, *, stops: bool
) -> None:
    """Check what is maximised; *stops*: whether some are stopped, or copied, on the way."""
    several, said = len(maximise) > 1, ", ".join(maximise)
    if len(set(maximise)) < len(maximise):
        raise ValueError(f"objectives must differ, but maximise has {said}; drop one")
    if sampler in OF_MANY and not several:
        raise ValueError(
            f"the sampler {sampler} must have several objectives, but maximise has "
            f"{said}; add one, or use tpe"
        )
    if several and sampler not in (*OF_MANY, *OF_ANY):
        raise ValueError(
            f"the sampler {sampler} must have one objective, but maximise has {said}; "
            f"drop others, or use one of {', '.join((*OF_MANY, *OF_ANY))}"
        )
    if sampler in ("nsga2", "nsga3") and generation == 1:
        raise ValueError(
            f"generation must be 2 at least for {sampler}, for a child has two parents, "
            "but is 1; 20 would do"
        )
    if stops and maximise[0] not in PER_EXAM:
        raise ValueError(
            "the first objective must be one that an exam of one seed tells, for `prune` and "
            f"populations go by it, but is {maximise[0]}; put one of {', '.join(PER_EXAM)} first, "
            "or stop nobody"
        )


def check_choice(choose: str | Mapping[Any, float], maximise: Sequence[str]) -> None:
    weights = choose if isinstance(choose, dict) else {}
    strangers = ", ".join(sorted(weights.keys() - set(maximise)))
    if strangers or not all(0 < weight < math.inf for weight in weights.values()):
        raise ValueError(
            "choose must weigh objectives of maximise by positive numbers, but has "
            f"{strangers or weights}; maximise has {', '.join(maximise)}"
        )
    if choose == {}:
        raise ValueError("choose must weigh an objective, but is {}; knee would do")


def check_points(maximise: Sequence[str], zero: Sequence[float], one: Sequence[float]) -> None:
    """Check what a hypervolume is measured from."""
    if ("hypervolume" in maximise) != bool(zero):
        raise ValueError(
            "reference_point must be given for a hypervolume, and for nothing else, but is "
            f"{list(zero)} while maximise has {', '.join(maximise)}; fix it below all "
            "that matters, one number an objective of the returns"
        )
    if one and (len(one) != len(zero) or any(a >= b for a, b in zip(zero, one, strict=True))):
        raise ValueError(
            "ideal_point must lie above reference_point in each objective, but they are "
            f"{list(one)} and {list(zero)}; correct one of them"
        )
    if not all(map(math.isfinite, (*zero, *one))):
        raise ValueError(
            f"reference_point and ideal_point must be finite, but are {list(zero)} and "
            f"{list(one)}; correct them"
        )


def check_for(maximise: Sequence[str], tasks: int, seeds: int) -> None:
    """Refuse objectives that mean nothing with so many tasks, and seeds to choose by."""
    for name, count, what in (
        ("forgetting", tasks, "tasks"),
        ("worst_case", tasks, "tasks"),
        ("worst_task", tasks, "tasks"),
        ("worst_seed", seeds, "tuning seeds"),
    ):
        if name in maximise and count < 2:  # noqa: PLR2004
            raise ValueError(
                f"the objective {name} must have several {what} to be told, but there is "
                f"{count}; add some, or drop it from maximise"
            )
