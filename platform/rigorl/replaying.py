"""Searches compared on tables, each told many times."""

from collections.abc import Mapping
from itertools import combinations
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from rigorl.analysis import statistics
from rigorl.analysis.seeds import Gap, tuned_test_gap, winners_curse
from rigorl.analysis.statistics import Estimate, means
from rigorl.seeds import stream
from rigorl.tables import Ask, Lookup, Table, told

Array = NDArray[np.float64]


class Replay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Searches that are compared on tables. `tables` are files, beside this one or below."""

    name: str
    question: str
    tables: dict[str, str]
    searches: Annotated[dict[str, Lookup], Meta(min_length=1)]
    repeats: Annotated[int, Meta(ge=2)] = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name, how in self.searches.items():
            if how.table not in self.tables:
                raise ValueError(
                    f"a search must name one of tables, but {name} names {how.table!r}; there are "
                    f"{', '.join(self.tables) or 'none'}"
                )


class Replayed(Struct, frozen=True, kw_only=True):
    """What a search comes to on a table, over all the times that it was told.

    Intervals are over these times, so they hold for this table: another one may differ by more.
    """

    tuned: Estimate
    test: Estimate
    gap: Estimate
    runs: float
    """Mean cost, in whole trials: configuration x seed."""
    model: Gap | None
    """What `seeds.tuned_test_gap` expects of the winner, from the scatter of this table alone:
    as many candidates as were asked for, drawn at random and none stopped. Else None."""
    empty: int
    """Times that it found no winner."""


class Replays(Struct, frozen=True, kw_only=True):
    """Searches compared on tables."""

    name: str
    question: str
    repeats: int
    searches: dict[str, Replayed]
    differences: dict[str, Estimate]
    """`a - b`: how much more the winner of a earns on test seeds."""


def replay(what: Replay, tables: Mapping[str, Table], ask: Ask) -> Replays:
    """Tell each search of *what* many times, each time on other seeds."""
    tests: dict[str, Array] = {}
    searches: dict[str, Replayed] = {}
    for name, how in what.searches.items():
        table = tables[how.table]
        lucks = [stream(what.seed, "replay", name, repeat) for repeat in range(what.repeats)]
        times = np.array([told(table, how, ask, luck) for luck in lucks])
        found = times[np.isfinite(times[:, 0])]
        searches[name] = Replayed(
            tuned=_over(found[:, 0], what.name),
            test=_over(found[:, 1], what.name),
            gap=_over(found[:, 0] - found[:, 1], what.name),
            runs=float(times[:, 2].mean()),
            model=_model(table, how),
            empty=len(times) - len(found),
        )
        tests[name] = found[:, [1]]
    return Replays(
        name=what.name,
        question=what.question,
        repeats=what.repeats,
        searches=searches,
        differences={
            f"{a} - {b}": Estimate.of(
                statistics.difference(tests[a], tests[b], means, stream(0, what.name)),
                min(len(tests[a]), len(tests[b])),
            )
            for a, b in combinations(tests, 2)
            if len(tests[a]) and len(tests[b])
        },
    )


def _over(values: Array, name: str) -> Estimate:
    if not len(values):
        return Estimate(None, None, None, 0)
    found = statistics.interval(values[:, None], means, stream(0, name, "bootstrap"))
    return Estimate.of(found, len(values))


def _model(table: Table, how: Lookup) -> Gap | None:
    if how.sampler != "random" or how.prune or how.as_it_comes:
        return None
    scatter = winners_curse(table.final_CS)
    gap = tuned_test_gap(scatter.tau, scatter.sigma, how.candidates, how.seeds)
    mean = float(table.final_CS.mean())
    return Gap(mean + gap.tuned, mean + gap.test)
