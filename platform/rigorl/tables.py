"""Searches on a table: what every configuration earns on every seed is looked up, not played.

A table is played once (`rigorl table`). Then a search costs nothing, and can be told hundreds of
times, each time on other seeds: some to choose by, and all others to be judged by. After ARLBench
(Becktepe et al. 2024, arXiv 2409.18827), which looks up landscapes in the same way.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from rigorl import search
from rigorl.analysis.seeds import winners_curse
from rigorl.hunting import Size, Try, follow, hunt
from rigorl.search import Outcome
from rigorl.searches import POPULATIONS, Count, Prune, Sampler, Search
from rigorl.space import Choice, Config, Over, Space, fits

Array = NDArray[np.float64]
Ask = Callable[[Search, int, Sequence[Outcome]], Config]


class Table(Struct, frozen=True, kw_only=True, dict=True):
    """What each of some configurations is worth on each of some seeds, at each rung.

    `values[c][s][r]`, in what a search maximises; of a configuration that failed on a seed there
    are none. `steps[r]` are the environment steps made by then. The first is the arm as it comes.
    """

    study: str
    arm: str
    space: Space
    steps: tuple[int, ...]
    seeds: tuple[int, ...]
    configs: tuple[dict[str, Any], ...]
    values: tuple[tuple[tuple[float, ...], ...], ...]

    def __post_init__(self) -> None:
        shape = [len(self.steps)] * len(self.seeds)
        broken = [n for n, row in enumerate(self.values) if row and [*map(len, row)] != shape]
        if len(self.configs) != len(self.values) or broken:
            raise ValueError(
                "a table must have a row of seeds x rungs, or an empty one, for each "
                f"configuration, but has {len(self.values)} for {len(self.configs)}, and wrong "
                f"ones at {broken}; make it again with `rigorl table`"
            )
        if not self.steps or any(a >= b for a, b in pairwise((0, *self.steps))):
            raise ValueError(
                f"steps of a table must rise from above 0, but are {list(self.steps)}; make it "
                "again with `rigorl table`"
            )
        strangers = [n for n, c in enumerate(self.configs) if n and not fits(self.space, c)]
        if strangers:
            raise ValueError(
                f"configurations of a table must be of its space, but {strangers} are not; make "
                "it again with `rigorl table`"
            )

    @property
    def drawn_CS(self) -> Array:  # noqa: N802
        """Return the last values of those that a sampler drew, and that failed on no seed."""
        return np.array([[curve[-1] for curve in curves] for curves in self.values[1:] if curves])


def table(
    study: str,
    arm: str,
    space: Space,
    steps: Sequence[int],
    seeds: Sequence[int],
    told: Sequence[Outcome],
) -> Table:
    """Return the table of what came of candidates that nobody stopped."""
    rungs = range(len(steps))
    return Table(
        study=study,
        arm=arm,
        space=space,
        steps=tuple(steps),
        seeds=tuple(seeds),
        configs=tuple(dict(outcome.config) for outcome in told),
        values=tuple(
            tuple(tuple(_seen(curve, rung) for rung in rungs) for curve in outcome.curves)
            if outcome.state == "finished"
            else ()
            for outcome in told
        ),
    )


def _seen(curve: Mapping[int, float], rung: int) -> float:
    """Return what a curve was at *rung*, or at the next one if a rollout passed that."""
    return curve[min(r for r in curve if r >= rung)]


class Lookup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A search to be told on a table, and on how many of its seeds one chooses."""

    table: str
    seeds: Count
    candidates: Count
    sampler: Sampler = "random"
    generation: Count = 4
    prune: Prune | None = None
    as_it_comes: bool = True
    """Whether the arm as it comes is the first candidate, as in a search that is played; else it
    is none at all."""


class Told(NamedTuple):
    """What one search on a table came to."""

    tuned: float
    """The winner's mean over the seeds that it was chosen by."""
    test: float
    """And over all other seeds of the table."""
    runs: float
    """What it cost, in whole trials: configuration x seed."""
    luck: float
    """The gap to expect, by the scores of its own candidates: `seeds.winners_curse`. May be NaN."""


def as_search(table: Table, how: Lookup, name: str = "a search") -> Search:
    """Return *how* as a search. Raises `ValueError` where *table* has not enough for it."""
    if how.seeds >= len(table.seeds):
        raise ValueError(
            f"a table must keep seeds to test on, but {name} chooses on {how.seeds} of "
            f"{len(table.seeds)}; choose on fewer"
        )
    there = len(table.configs) - (not how.as_it_comes)
    if how.candidates > there:
        raise ValueError(
            f"a table must have all that a search tries, but {name} tries {how.candidates} of "
            f"{there}; try fewer"
        )
    if how.sampler in POPULATIONS:
        raise ValueError(
            f"a table must hold what a search tries, but {name} is {how.sampler}, whose settings "
            "change in flight: a table has none of these; take another sampler"
        )
    if how.prune:
        how.prune.check_for(name, len(table.steps), how.seeds)
    return Search(
        space=table.space,
        candidates=how.candidates,
        sampler=how.sampler if how.sampler != "grid" else "random",
        generation=how.generation,
        prune=how.prune,
    )


def told(table: Table, how: Lookup, ask: Ask, luck: np.random.SeedSequence) -> Told:
    """Tell the search *how* once: which seeds it chooses by, and all its draws, come of *luck*."""
    rng = np.random.default_rng(luck)
    order = [int(place) for place in rng.permutation(len(table.seeds))]
    mine, others = order[: how.seeds], order[how.seeds :]
    asked = replace(as_search(table, how), seed=int(rng.integers(2**31)))
    rows: list[int] = []

    def propose(number: int, known: Sequence[Outcome]) -> Config:
        rows.append(_row(table, how, number, rows, known, asked, ask, rng))
        return table.configs[rows[-1]]

    found: list[Outcome] = []
    size = Size(how.seeds, len(table.steps))
    follow(
        hunt(asked, size, propose, found),
        lambda one: played(table, rows[one.number], [mine[s] for s in one.seeds], one),
    )
    steps = sum(outcome.steps for outcome in found)
    winner = search.best(found)
    if winner is None:
        return Told(math.nan, math.nan, steps / table.steps[-1], math.nan)
    row = table.values[rows[found.index(winner)]]
    test = search.mean([row[place][-1] for place in others])
    curse = winners_curse(np.array([o.by_seed for o in found if o.state == "finished"]))
    whole = all(outcome.state != "pruned" for outcome in found)
    expected = curse.tuned - curse.test if whole else math.nan
    return Told(winner.value, test, steps / table.steps[-1], expected)


def played(table: Table, row: int, places: Sequence[int], one: Try) -> Outcome:
    """Return what comes of *one* try, of the configuration in *row*, on seeds at *places*."""
    curves = [table.values[row][place] for place in places] if table.values[row] else []
    if not curves:
        return Outcome(one.config, "failed", {}, steps=table.steps[-1] * len(places))
    means = [search.mean(values) for values in zip(*curves, strict=True)]
    last = len(means) - 1
    missed = next((r for r, mean in enumerate(means) if mean < one.bars.get(r, -math.inf)), None)
    end = last if missed is None else missed
    return Outcome(
        config=one.config,
        state="finished" if missed is None else "pruned",
        values=dict(enumerate(means[: end + 1])),
        by_seed=tuple(curve[end] for curve in curves),
        steps=table.steps[end] * len(places),
        curves=tuple(dict(enumerate(curve[: end + 1])) for curve in curves),
    )


def _row(
    table: Table,
    how: Lookup,
    number: int,
    rows: Sequence[int],
    known: Sequence[Outcome],
    asked: Search,
    ask: Ask,
    rng: np.random.Generator,
) -> int:
    """Return the row of candidate *number*: one that was not tried, as near as there is to ask."""
    if number == 0 and how.as_it_comes:
        return 0
    free = [row for row in range(1, len(table.configs)) if row not in rows]
    if how.sampler == "grid":
        return free[0]
    if how.sampler == "random":
        return int(rng.choice(free))
    wanted = ask(asked, number, known)
    return min(free, key=lambda row: distance(table.space, wanted, table.configs[row]))


def resampled(table: Table, luck: np.random.SeedSequence) -> Table:
    """Return *table* as it might have been: its configurations, but for the first, drawn again."""
    drawn = np.random.default_rng(luck).integers(1, len(table.configs), len(table.configs) - 1)
    rows = [0, *map(int, drawn)]
    return replace(
        table,
        configs=tuple(table.configs[row] for row in rows),
        values=tuple(table.values[row] for row in rows),
    )


def distance(space: Space, a: Config, b: Config) -> float:
    """Return how far two configurations are apart, where each dimension is 1 long.

    Other choices are 1 apart, as are a value and none.
    """
    return math.hypot(*(_apart(over, a.get(name), b.get(name)) for name, over in space.items()))


def _apart(over: Over, a: Any, b: Any) -> float:
    if a is None or b is None or isinstance(over, Choice):
        return float(a != b)
    if over.log:
        return abs(math.log(a / b)) / math.log(over.high / over.low) if min(a, b) > 0 else 1.0
    return float(abs(a - b) / (over.high - over.low))
