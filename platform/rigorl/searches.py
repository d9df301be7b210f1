"""What one may say of a search: from what it chooses, how, and who is stopped early."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from rigorl.schedules import SCHEDULE
from rigorl.space import Choice, Space, check, fits, grid, holds, names_of

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(gt=0, lt=1)]
GENERATION = 4
FEWEST = 4
"""Members of a population."""


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

    @property
    def kept(self) -> float:
        """The share of earlier candidates that is good enough."""
        return 1 / self.eta if self.kind == "asha" else self.keep


Sampler = Literal["tpe", "random", "grid", "gp", "cmaes", "qmc", "pbt", "pb2"]
POPULATIONS = ("pbt", "pb2")


class Search(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to choose a configuration: candidates drawn from a space, judged on tune seeds.

    Candidates come in generations: one generation is played side by side and told to the
    sampler in order, so the same search proposes the same candidates on any machine. The
    arm's own configuration is always the first candidate; those of `enqueue` are the next,
    with the arm's own values where they are silent. No other candidate breaks a law of
    `constraints`. The candidates of pbt and pb2 are a population: every so many rungs, the worst
    go on as the best, with other settings. It is all done `repeats` times, from `seed`,
    `seed` + 1, ..., each with a winner.
    """

    space: Annotated[Space, Meta(min_length=1)]
    candidates: Count
    sampler: Sampler = "tpe"
    generation: Count = GENERATION
    seed: int = 0
    repeats: Count = 1
    prune: Prune | None = None
    enqueue: tuple[dict[str, Any], ...] = ()
    constraints: tuple[str, ...] = ()
    every: Count | None = None
    """Rungs from one such change of a population to the next; 1."""

    @property
    def is_population(self) -> bool:
        """Whether what it chooses are schedules: settings that change while an agent learns."""
        return self.sampler in POPULATIONS

    def __post_init__(self) -> None:
        check(self.space)
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
        if self.is_population:
            self._check_population()
        elif self.every is not None:
            raise ValueError(
                f"every is for populations, but the sampler is {self.sampler}; drop it, or take "
                "pbt or pb2"
            )

    def _check_population(self) -> None:
        if self.candidates < FEWEST:
            raise ValueError(
                f"a population must have {FEWEST} members, so that a quarter is somebody, but "
                f"candidates are {self.candidates}; ask for more"
            )
        if self.prune is not None:
            raise ValueError(
                f"a population must be whole, but prune would stop some of it early; drop prune: "
                f"{self.sampler} itself lets the worst go"
            )
        if self.generation != GENERATION:
            raise ValueError(
                f"generation must be left out with {self.sampler}, but is {self.generation}: all "
                "candidates are one population; drop it"
            )
        for name, over in self.space.items():
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
        if self.sampler == "pb2" and all(isinstance(over, Choice) for over in self.space.values()):
            raise ValueError(
                "pb2 must have numbers to choose, but the space holds choices only; take pbt"
            )

    def _check_law(self, law: str) -> None:
        names = names_of(law)
        if not names or not names <= self.space.keys():
            raise ValueError(
                f"a constraint must compare dimensions of the space, but {law!r} names "
                f"{', '.join(sorted(names - self.space.keys())) or 'none'}; the space has "
                f"{', '.join(self.space)}"
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
