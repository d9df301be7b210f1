"""What a search found, on the seeds it chose by and on others, and what it spent."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from rigorl.analysis import statistics
from rigorl.analysis.seeds import winners_curse
from rigorl.analysis.statistics import Estimate, means

Array = NDArray[np.float64]
State = Literal["finished", "pruned", "failed", "open"]


class Candidate(Struct, frozen=True, kw_only=True):
    """A candidate that no other one beats, and what it is worth on tuning seeds, by objective."""

    number: int
    config: dict[str, Any]
    tuned: dict[str, float]
    chosen: bool


class Front(Struct, frozen=True, kw_only=True):
    """Where a search maximised other things than the score: what there was to choose from."""

    candidates: tuple[Candidate, ...]
    test: dict[str, float]
    """What the winner is worth on test seeds, by objective; empty if one of them is missing."""


class Hunt(NamedTuple):
    """The candidates of a search as numbers: in their order, but for `scores_CS`.

    `scores_CS` holds those that finished, candidate x seed, and `test_S` the winner on test seeds:
    both in what the search maximised.
    """

    states: list[State]
    steps: list[int]
    """Environment steps that each candidate made, on all seeds together."""
    whole: int
    """Those of a candidate that finishes."""
    scores_CS: Array
    test_S: Array
    winner: int | None = None
    """Its row of `scores_CS`; None: the one with the largest mean."""
    front: Front | None = None
    akin: bool = False
    """Whether candidates descend from one another, so that their scores are not drawn apart."""


class Tuning(Struct, frozen=True, kw_only=True):
    """What a search found and spent. All scores are in what it maximised."""

    candidates: int
    finished: int
    pruned: int
    failed: int
    tuned: float
    """The winner's mean over the seeds that it was chosen by: the best of many, so too good.

    Of several objectives, here and below, in the first one."""
    test: Estimate | None
    """Its mean over test seeds; None if one of them is missing."""
    gap: Estimate | None
    """The first minus the second."""
    luck: float | None
    """How large a gap to expect: `seeds.winners_curse`. None where one cannot know, and where
    it was not the largest mean that won."""
    steps: int
    """Environment steps that all candidates made, those that were pruned or failed included."""
    saved: int
    """Steps that pruned candidates did not make."""
    front: Front | None = None
    """Where it maximised other things than the score; else None."""


class Repeats(Struct, frozen=True, kw_only=True):
    """What several searches for the same thing found: how far one search is to be trusted.

    Means over searches, with intervals over searches; None while a test score is missing.
    """

    searches: int
    tuned: Estimate
    test: Estimate | None
    gap: Estimate | None
    tests: tuple[float | None, ...]
    """The winner's mean over test seeds, of each search."""


def repeats(hunts: Sequence[Hunt], luck: statistics.Luck) -> Repeats:
    """Return what several searches found."""

    def over(values: Sequence[float]) -> Estimate:
        found = statistics.interval(np.array(values)[:, None], means, luck)
        return Estimate.of(found, len(values))

    tuned = [_tuned(hunt) for hunt in hunts]
    tests = [float(hunt.test_S.mean()) if len(hunt.test_S) else None for hunt in hunts]
    known = [test for test in tests if test is not None]
    whole = len(known) == len(hunts)
    return Repeats(
        searches=len(hunts),
        tuned=over(tuned),
        test=over(known) if whole else None,
        gap=over([a - b for a, b in zip(tuned, known, strict=True)]) if whole else None,
        tests=tuple(tests),
    )


def tuning(hunt: Hunt, luck: statistics.Luck) -> Tuning:
    """Return what *hunt* found. Its intervals are over test seeds alone."""
    counts = Counter(hunt.states)
    curse, tuned = winners_curse(hunt.scores_CS), _tuned(hunt)
    test = gap = None
    if len(hunt.test_S):
        n = len(hunt.test_S)
        over = statistics.interval(hunt.test_S[:, None], means, luck)
        test = Estimate.of(over, n)
        gap = Estimate(tuned - over.point, tuned - over.high, tuned - over.low, n)
    survivors = counts["pruned"] > 0  # they scatter less than candidates do
    unknown = hunt.akin or survivors or hunt.winner is not None or not np.isfinite(curse.test)
    pruned = [n for n, state in zip(hunt.steps, hunt.states, strict=True) if state == "pruned"]
    return Tuning(
        candidates=len(hunt.states),
        finished=counts["finished"],
        pruned=counts["pruned"],
        failed=counts["failed"],
        tuned=tuned,
        test=test,
        gap=gap,
        luck=None if unknown else curse.tuned - curse.test,
        front=hunt.front,
        steps=sum(hunt.steps),
        saved=sum(hunt.whole - made for made in pruned),
    )


def _tuned(hunt: Hunt) -> float:
    """Return the winner's mean over the seeds that it was chosen by."""
    mean_C = hunt.scores_CS.mean(axis=1)
    return float(mean_C.max() if hunt.winner is None else mean_C[hunt.winner])
