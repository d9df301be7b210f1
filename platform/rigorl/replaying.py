"""Searches compared on tables, each told many times."""

import math
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from rigorl.analysis import statistics
from rigorl.analysis.seeds import Gap, tuned_test_gap, winners_curse
from rigorl.analysis.statistics import Estimate, means
from rigorl.seeds import stream
from rigorl.tables import Ask, Lookup, Table, resampled, told

Array = NDArray[np.float64]


class Replay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Searches that are compared on tables. `tables` are files, beside this one or below."""

    name: str
    question: str
    tables: dict[str, str]
    searches: Annotated[dict[str, Lookup], Meta(min_length=1)]
    repeats: Annotated[int, Meta(ge=2)] = 100
    resamples: Annotated[int, Meta(ge=0)] = 0
    """Tables drawn again from each, for intervals that also know that another would differ."""
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

    Intervals are over these times, and hold for this table alone; with `resamples`, over tables
    that were drawn from it again, configuration by configuration.
    """

    tuned: Estimate
    test: Estimate
    gap: Estimate
    runs: float
    """Mean cost, in whole trials: configuration x seed."""
    luck: Estimate
    """The gap that a search expects by the scores of its own candidates: `seeds.winners_curse`,
    which it can where several finished on several seeds."""
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
    resamples: int
    searches: dict[str, Replayed]
    differences: dict[str, Estimate]
    """`a - b`: how much more the winner of a earns on test seeds."""


def replay(what: Replay, tables: Mapping[str, Table], ask: Ask) -> Replays:
    """Tell each search of *what* many times, each time on other seeds."""
    seen = {name: _times(what, name, tables[how.table], ask) for name, how in what.searches.items()}
    return Replays(
        name=what.name,
        question=what.question,
        repeats=what.repeats,
        resamples=what.resamples,
        searches={
            name: Replayed(
                tuned=seen[name].estimate(lambda times: times[:, 0], what.name),
                test=seen[name].estimate(lambda times: times[:, 1], what.name),
                gap=seen[name].estimate(lambda times: times[:, 0] - times[:, 1], what.name),
                runs=float(seen[name].told_R4[:, 2].mean()),
                luck=seen[name].estimate(lambda times: times[:, 3], what.name),
                model=_model(tables[how.table], how),
                empty=int(np.isnan(seen[name].told_R4[:, 0]).sum()),
            )
            for name, how in what.searches.items()
        },
        differences={
            f"{a} - {b}": _difference(seen[a], seen[b], what.name) for a, b in combinations(seen, 2)
        },
    )


class _Times(NamedTuple):
    """What a search came to (`tables.Told`), each time."""

    told_R4: Array
    means_B4: Array
    """Means over the times that it was told on each resampled table; no rows without any."""

    def estimate(self, of: Callable[[Array], Array], name: str) -> Estimate:
        values_R, means_B = of(self.told_R4), of(self.means_B4)
        known = values_R[np.isfinite(values_R)]
        if not len(known):
            return Estimate(None, None, None, 0)
        found = statistics.interval(known[:, None], means, stream(0, name, "bootstrap"))
        low, high = _bounds(means_B) if len(means_B) else (found.low, found.high)
        return Estimate(found.point, low, high, len(known))


def _times(what: Replay, name: str, table: Table, ask: Ask) -> _Times:
    """Tell the search *name*: on its table, and on others as that one might have been."""
    how = what.searches[name]
    lucks = [stream(what.seed, "replay", name, repeat) for repeat in range(what.repeats)]
    told_R4 = np.array([told(table, how, ask, luck) for luck in lucks])
    each = math.ceil(what.repeats / max(1, what.resamples))
    rows = []
    for b in range(what.resamples):
        other = resampled(table, stream(what.seed, "table", how.table, b))
        again = [stream(what.seed, "replay", name, b, repeat) for repeat in range(each)]
        times = np.array([told(other, how, ask, luck) for luck in again])
        found = times[np.isfinite(times[:, 0])]
        rows.append([_mean(column) for column in found.T])
    return _Times(told_R4, np.array(rows).reshape(-1, 4))


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def _difference(a: _Times, b: _Times, name: str) -> Estimate:
    """Return how much more *a* earns on test seeds. Searches on one table share its resamples."""
    tests = [one.told_R4[np.isfinite(one.told_R4[:, 1]), 1] for one in (a, b)]
    if not all(map(len, tests)):
        return Estimate(None, None, None, 0)
    found = statistics.difference(tests[0][:, None], tests[1][:, None], means, stream(0, name))
    both = len(a.means_B4) and len(b.means_B4)
    low, high = _bounds(a.means_B4[:, 1] - b.means_B4[:, 1]) if both else (found.low, found.high)
    return Estimate(found.point, low, high, min(map(len, tests)))


def _bounds(means_B: Array) -> tuple[float, float]:
    known = means_B[np.isfinite(means_B)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return float(low), float(high)


def _model(table: Table, how: Lookup) -> Gap | None:
    if how.sampler != "random" or how.prune or how.as_it_comes:
        return None
    scatter = winners_curse(table.drawn_CS)
    gap = tuned_test_gap(scatter.tau, scatter.sigma, how.candidates, how.seeds)
    mean = float(table.drawn_CS.mean())
    return Gap(mean + gap.tuned, mean + gap.test)
