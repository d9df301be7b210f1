"""What one may say of a search: from what it chooses, how, and who is stopped early."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from rigorl.errors import SpecError
from rigorl.space import Choice, Space, check, fits, grid, holds, names_of

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(gt=0, lt=1)]


class Prune(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stop a candidate that falls behind, after the first `grace` of its budget.

    curve: at each exam it must reach what the best `keep` of earlier candidates had there, as
    the mean over tuning seeds. asha: likewise the best 1 / `eta`, at ever fewer exams.
    hyperband: candidates begin together, and the best 1 / `eta` of them go on at each stop.
    racing: one seed after another; who is worse than the best, with a one-sided p below `p` by
    the signed ranks of its seeds so far, is not played on the rest. both: racing, and on each
    seed the curves of earlier candidates on that seed.
    """

    kind: Literal["curve", "asha", "hyperband", "racing", "both"] = "curve"
    keep: Share = 0.5
    grace: Share = 0.25
    eta: Annotated[int, Meta(ge=2)] = 3
    p: Share = 0.1

    def can_stop(self, rungs: int) -> bool:
        """Say whether there is an exam, of so many, after which there is something left to save."""
        first = max(1, math.ceil(self.grace * rungs))
        match self.kind:
            case "hyperband":
                return rungs >= self.eta * max(1.0, self.grace * rungs)
            case "racing":
                return True
            case _:
                return first < rungs

    @property
    def kept(self) -> float:
        """The share of earlier candidates that is good enough."""
        return 1 / self.eta if self.kind == "asha" else self.keep


Sampler = Literal[
    "tpe", "random", "grid", "gp", "cmaes", "qmc", "bohb", "dehb", "nsga2", "nsga3", "motpe"
]
OF_MANY = ("nsga2", "nsga3", "motpe")
"""Samplers that are for several objectives; of the others, those of `OF_ANY` take them too."""
OF_ANY = ("tpe", "random", "grid", "gp", "qmc")
Objective = Literal["score", "worst_task", "worst_seed", "forgetting", "updates", "hypervolume"]
PER_EXAM = ("score", "worst_task", "updates", "hypervolume")
"""Objectives that one exam of one trial tells, and by which a worker can prune."""


class Measure(Struct, frozen=True, kw_only=True):
    """What a trial is worth at an exam. `reference` and `ideal` are of a hypervolume."""

    objective: Objective = "score"
    reference: tuple[float, ...] = ()
    ideal: tuple[float, ...] = ()

    def check(self, rewards: int, task: str) -> None:
        """Refuse points that are not of as many objectives as *task* has *rewards*."""
        if self.objective == "hypervolume" and len(self.reference) != rewards:
            raise SpecError(
                "reference_point must have a number for each reward of a step, but has "
                f"{len(self.reference)}, and task {task!r} earns {rewards}; correct it"
            )


BY_SCORE = Measure()
POPULATION = 4
"""The fewest candidates of which CMA-ES learns anything."""


class Search(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to choose a configuration: candidates drawn from a space, judged on tune seeds.

    Candidates come in generations: one generation is played side by side and told to the
    sampler in order, so the same search proposes the same candidates on any machine. The
    arm's own configuration is always the first candidate; those of `enqueue` are the next,
    with the arm's own values where they are silent. No other candidate breaks a law of
    `constraints`. It is all done `repeats` times, from `seed`, `seed` + 1, ..., each with a winner.

    `maximise` says what for; see `rigorl.objectives`. Pruning goes by the first of several, and
    `choose` says which of the candidates that no other one beats wins: the one whose worst
    objective is best (knee), the best in the first, or the largest weighted sum.
    """

    space: Annotated[Space, Meta(min_length=1)]
    candidates: Count
    sampler: Sampler = "tpe"
    generation: Count = 4
    seed: int = 0
    repeats: Count = 1
    prune: Prune | None = None
    enqueue: tuple[dict[str, Any], ...] = ()
    constraints: tuple[str, ...] = ()
    maximise: Annotated[tuple[Objective, ...], Meta(min_length=1)] = ("score",)
    choose: Literal["knee", "first"] | dict[Objective, float] = "knee"
    reference_point: tuple[float, ...] = ()
    ideal_point: tuple[float, ...] = ()

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What it maximises. By the first, candidates are pruned."""
        zero, one = self.reference_point, self.ideal_point
        return tuple(
            Measure(objective=name, reference=zero, ideal=one)
            if name == "hypervolume"
            else Measure(objective=name)
            for name in self.maximise
        )

    def __post_init__(self) -> None:
        check(self.space)
        self._check_objectives()
        self._check_points()
        for law in self.constraints:
            self._check_law(law)
        for config in self.enqueue:
            for name, value in config.items():
                if name not in self.space or not self.space[name].takes(value):
                    raise ValueError(
                        f"enqueue must hold values of the space, but {name}: {value!r} is none; "
                        "correct it, or widen the space"
                    )
        if self.candidates <= len(self.enqueue):
            raise ValueError(
                "candidates must count the arm as it comes and all of enqueue, but are "
                f"{self.candidates} for {len(self.enqueue) + 1}; ask for more"
            )
        if self.sampler == "grid":
            self._check_grid()
        if self.sampler == "cmaes":
            self._check_cmaes()
        if self.sampler in ("bohb", "dehb") and (not self.prune or self.prune.kind != "hyperband"):
            raise ValueError(
                f"{self.sampler} must have `prune: {{kind: hyperband}}`, for it learns from where "
                f"that stops candidates, but has {self.prune.kind if self.prune else 'none'}; "
                "write it, or choose `sampler: tpe`"
            )

    def _check_law(self, law: str) -> None:
        names = names_of(law)
        if not names or not names <= self.space.keys():
            raise ValueError(
                f"a constraint must compare dimensions of the space, but {law!r} names "
                f"{', '.join(sorted(names - self.space.keys())) or 'none'}; the space has "
                f"{', '.join(self.space)}"
            )

    def _check_cmaes(self) -> None:
        for name, over in self.space.items():
            if isinstance(over, Choice) or over.when:
                raise ValueError(
                    "cmaes must have numbers that always count, but "
                    f"{name} {'hangs on another' if over.when else 'is a choice'}; "
                    "write it as a number, or choose `sampler: tpe`"
                )
        if self.generation < POPULATION:
            raise ValueError(
                f"generation must be at least {POPULATION} with cmaes, whose population it is, but "
                f"is {self.generation}; raise it"
            )

    def _check_grid(self) -> None:
        for name, over in self.space.items():
            try:
                over.grid()
            except ValueError as error:
                raise ValueError(f"{error}, but {name} does not; as `levels: 5`") from error
        most = 1 + len(self.enqueue) + sum(self.keeps(config) for config in grid(self.space))
        if self.candidates > most:
            raise ValueError(
                f"candidates must be at most {most}, the points of the grid that constraints "
                f"allow and what comes before them, but are {self.candidates}; lower them"
            )

    def keeps(self, config: Mapping[str, Any]) -> bool:
        """Say whether *config* is of the space, and breaks none of its laws."""
        return fits(self.space, config) and all(holds(law, config) for law in self.constraints)

    def _check_objectives(self) -> None:
        several, said = len(self.maximise) > 1, ", ".join(self.maximise)
        if len(set(self.maximise)) < len(self.maximise):
            raise ValueError(f"objectives must differ, but maximise has {said}; drop one")
        if self.sampler in OF_MANY and not several:
            raise ValueError(
                f"the sampler {self.sampler} must have several objectives, but maximise has "
                f"{said}; add one, or use tpe"
            )
        if several and self.sampler not in (*OF_MANY, *OF_ANY):
            raise ValueError(
                f"the sampler {self.sampler} must have one objective, but maximise has {said}; "
                f"drop others, or use one of {', '.join((*OF_MANY, *OF_ANY))}"
            )
        if self.sampler in ("nsga2", "nsga3") and self.generation == 1:
            raise ValueError(
                f"generation must be 2 at least for {self.sampler}, for a child has two parents, "
                "but is 1; 20 would do"
            )
        if self.prune and self.maximise[0] not in PER_EXAM:
            raise ValueError(
                "the first objective must be one that an exam of one seed tells, for `prune` goes "
                f"by it, but is {self.maximise[0]}; put one of {', '.join(PER_EXAM)} first, or "
                "drop prune"
            )
        weights = self.choose if isinstance(self.choose, dict) else {}
        strangers = ", ".join(sorted(weights.keys() - set(self.maximise)))
        if strangers or not all(0 < weight < math.inf for weight in weights.values()):
            raise ValueError(
                "choose must weigh objectives of maximise by positive numbers, but has "
                f"{strangers or weights}; maximise has {said}"
            )
        if self.choose == {}:
            raise ValueError("choose must weigh an objective, but is {}; knee would do")

    def _check_points(self) -> None:
        """Check what a hypervolume is measured from."""
        zero, one = self.reference_point, self.ideal_point
        if ("hypervolume" in self.maximise) != bool(zero):
            raise ValueError(
                "reference_point must be given for a hypervolume, and for nothing else, but is "
                f"{list(zero)} while maximise has {', '.join(self.maximise)}; fix it below all "
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

    def check_for(self, tasks: int, seeds: int) -> None:
        """Refuse objectives that mean nothing with so many tasks, and seeds to choose by."""
        for name, count, what in (
            ("forgetting", tasks, "tasks"),
            ("worst_task", tasks, "tasks"),
            ("worst_seed", seeds, "tuning seeds"),
        ):
            if name in self.maximise and count < 2:  # noqa: PLR2004
                raise ValueError(
                    f"the objective {name} must have several {what} to be told, but there is "
                    f"{count}; add some, or drop it from maximise"
                )
