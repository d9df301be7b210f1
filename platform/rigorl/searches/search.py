"""From what a search chooses, how, and for what."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from rigorl.searches import laws
from rigorl.searches.measure import Measure, Objective
from rigorl.searches.prune import Prune
from rigorl.space import Choice, Space, check, compares, fits, grid, holds, names_of

Count = Annotated[int, Meta(gt=0)]
Sampler = Literal[
    "tpe", "random", "grid", "gp", "cmaes", "qmc", "bohb", "dehb",
    "nsga2", "nsga3", "motpe", "pbt", "pb2",
]  # fmt: skip
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

    `maximise` says what for; see `rigorl.objectives`. Pruning goes by the first of several, and
    `choose` says which of the candidates that no other one beats wins: the one whose worst
    objective is best (knee), the best in the first, or the largest weighted sum.
    """

    space: Annotated[Space, Meta(min_length=1)]
    candidates: Count
    sampler: Sampler = "tpe"
    generation: Count = laws.GENERATION
    seed: int = 0
    repeats: Count = 1
    prune: Prune | None = None
    enqueue: tuple[dict[str, Any], ...] = ()
    constraints: tuple[str, ...] = ()
    maximise: Annotated[tuple[Objective, ...], Meta(min_length=1)] = ("score",)
    choose: Literal["knee", "first"] | dict[Objective, float] = "knee"
    reference_point: tuple[float, ...] = ()
    ideal_point: tuple[float, ...] = ()

    every: Count | None = None
    """Rungs from one such change of a population to the next; 1."""

    @property
    def is_population(self) -> bool:
        """Whether what it chooses are schedules: settings that change while an agent learns."""
        return self.sampler in POPULATIONS

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
        stops = self.prune is not None or self.is_population
        laws.check_objectives(self.maximise, self.sampler, self.generation, stops=stops)
        laws.check_choice(self.choose, self.maximise)
        laws.check_points(self.maximise, self.reference_point, self.ideal_point)
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
        self._check_sampler()

    def _check_sampler(self) -> None:
        if self.sampler == "grid":
            self._check_grid()
        if self.sampler == "cmaes":
            laws.check_cmaes(self.space, self.generation)
        if self.sampler in ("bohb", "dehb") and (not self.prune or self.prune.kind != "hyperband"):
            raise ValueError(
                f"{self.sampler} must have `prune: {{kind: hyperband}}`, for it learns from where "
                f"that stops candidates, but has {self.prune.kind if self.prune else 'none'}; "
                "write it, or choose `sampler: tpe`"
            )
        if self.is_population:
            laws.check_population(
                self.sampler, self.candidates, self.prune, self.generation, self.space
            )
        elif self.every is not None:
            raise ValueError(
                f"every is for populations, but the sampler is {self.sampler}; drop it, or take "
                "pbt or pb2"
            )

    def _check_law(self, law: str) -> None:
        names = names_of(law)
        if not names or not names <= self.space.keys():
            raise ValueError(
                f"a constraint must compare dimensions of the space, but {law!r} names "
                f"{', '.join(sorted(names - self.space.keys())) or 'none'}; the space has "
                f"{', '.join(self.space)}"
            )
        first = {n: o.of[0] if isinstance(o, Choice) else o.low for n, o in self.space.items()}
        if not compares(law, first):
            raise ValueError(
                f"a constraint must compare numbers with numbers, but {law!r} does not, as for "
                f"{', '.join(f'{name} {first[name]!r}' for name in sorted(names))}; correct it"
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

    def check_for(self, tasks: int, seeds: int) -> None:
        """Refuse objectives that mean nothing with so many tasks, and seeds to choose by."""
        laws.check_for(self.maximise, tasks, seeds)
