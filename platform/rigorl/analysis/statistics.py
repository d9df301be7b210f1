"""Point estimates and how far to trust them. Agarwal et al. 2021 (arXiv 2108.13264)."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Luck = int | np.random.SeedSequence
Statistic = Callable[[Array], Array]
"""scores_RST -> values_R: one number for each of many matrices at once."""

RESAMPLES = 2000
CONFIDENCE = 0.95
BLOCK = 4_000_000
"""Numbers resampled at once; 30 MB."""


class Interval(NamedTuple):
    """A number, and the bounds between which it would mostly fall if seeds were drawn anew."""

    point: float
    low: float
    high: float


class Estimate(Struct, frozen=True):
    """A number over seeds, with its interval. All None where a seed has no such number.

    `seeds` counts those that have one.
    """

    point: float | None
    low: float | None
    high: float | None
    seeds: int

    @classmethod
    def of(cls, interval: Interval, seeds: int) -> "Estimate":
        return cls(*interval, seeds)


def iqms(scores_RST: Array) -> Array:
    """Return the mean of the middle half of each matrix: without a quarter at each end."""
    ordered = np.sort(scores_RST.reshape(len(scores_RST), -1), axis=1)
    cut = ordered.shape[1] // 4
    values_R: Array = ordered[:, cut : ordered.shape[1] - cut].mean(axis=1)
    return values_R


def means(scores_RST: Array) -> Array:
    """Return the mean of each matrix."""
    values_R: Array = scores_RST.mean(axis=(1, 2))
    return values_R


def iqm(scores_ST: ArrayLike) -> float:
    """Return the interquartile mean over all seeds and tasks together.

    Unit: that of the scores. Raises `ValueError` for what is not a matrix of finite numbers.
    """
    return float(iqms(_checked(scores_ST)[None])[0])


def mean(scores_ST: ArrayLike) -> float:
    """Return the mean over seeds and tasks; else as `iqm`."""
    return float(means(_checked(scores_ST)[None])[0])


def stratified_bootstrap(
    scores_ST: ArrayLike,
    seed: Luck = 0,
    statistic: Statistic = iqms,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Return the (low, high) of a percentile interval, resampling seeds within each task.

    Tasks are the strata: they are taken as they are, so the
    interval speaks of other seeds and not of other tasks. The same *seed* gives the same
    interval. One seed of scores gives an interval of no width, which says nothing.
    """
    scores_ST = _checked(scores_ST)
    values_R = _resampled(scores_ST, statistic, np.random.default_rng(seed), resamples)
    return _bounds(values_R, confidence)


def interval(scores_ST: ArrayLike, statistic: Statistic, seed: Luck) -> Interval:
    """Return *statistic* of the scores with its 95 % interval by `stratified_bootstrap`."""
    scores_ST = _checked(scores_ST)
    point = float(statistic(scores_ST[None])[0])
    return Interval(point, *stratified_bootstrap(scores_ST, seed, statistic))


def each(values_SM: ArrayLike, seed: Luck) -> list[tuple[Interval, Interval]]:
    """Return the mean and the IQM over seeds of each column, with 95 % intervals.

    Columns are resampled jointly: in each resample the same seeds are drawn for all. A column
    gets the interval that `interval` gives it alone.
    """
    values_SM = _checked(values_SM)
    S, M = values_SM.shape
    drawn_RS = np.random.default_rng(seed).integers(S, size=(RESAMPLES, S))
    found = []
    for column in range(M):
        x_S = values_SM[:, [column]]
        x_RS1 = x_S[drawn_RS]
        found.append(
            (
                Interval(float(means(x_S[None])[0]), *_bounds(means(x_RS1), CONFIDENCE)),
                Interval(float(iqms(x_S[None])[0]), *_bounds(iqms(x_RS1), CONFIDENCE)),
            )
        )
    return found


def difference(
    scores_XST: ArrayLike, scores_YST: ArrayLike, statistic: Statistic, seed: Luck
) -> Interval:
    """Return *statistic* of x minus that of y with its 95 % interval, resampled apart."""
    x_ST, y_ST = _checked_pair(scores_XST, scores_YST)
    rng = np.random.default_rng(seed)
    x_R = _resampled(x_ST, statistic, rng, RESAMPLES)
    y_R = _resampled(y_ST, statistic, rng, RESAMPLES)
    point = float(statistic(x_ST[None])[0] - statistic(y_ST[None])[0])
    return Interval(point, *_bounds(x_R - y_R, CONFIDENCE))


def probability_of_improvement(scores_XST: ArrayLike, scores_YST: ArrayLike) -> float:
    """Return the chance that a random seed of x beats one of y, in [0, 1], mean over tasks.

    Ties count half (the Mann-Whitney U statistic over X*Y). x and y
    may have different numbers of seeds, but must have the same tasks in the same order.
    """
    wins_TXY = _wins(*_checked_pair(scores_XST, scores_YST))
    return float(wins_TXY.mean())


def improvement(scores_XST: ArrayLike, scores_YST: ArrayLike, seed: Luck) -> Interval:
    """Return `probability_of_improvement` with its 95 % interval, both sides resampled."""
    wins_TXY = _wins(*_checked_pair(scores_XST, scores_YST))
    rng = np.random.default_rng(seed)
    T, X, Y = wins_TXY.shape
    # To draw seeds with replacement is to say how often each one was drawn.
    times_TRX = rng.multinomial(X, np.full(X, 1 / X), size=(T, RESAMPLES))
    times_TRY = rng.multinomial(Y, np.full(Y, 1 / Y), size=(T, RESAMPLES))
    values_TR = ((times_TRX @ wins_TXY) * times_TRY).sum(axis=2) / (X * Y)
    bounds = _bounds(values_TR.mean(axis=0), CONFIDENCE)
    return Interval(float(wins_TXY.mean()), *bounds)


def _wins(x_ST: Array, y_ST: Array) -> Array:
    x_TX1, y_T1Y = x_ST.T[:, :, None], y_ST.T[:, None, :]
    wins_TXY: Array = (x_TX1 > y_T1Y) + 0.5 * (x_TX1 == y_T1Y)
    return wins_TXY


def _resampled(
    scores_ST: Array, statistic: Statistic, rng: np.random.Generator, resamples: int
) -> Array:
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, but is {resamples}; 2000 would do")
    S, T = scores_ST.shape
    block = max(1, BLOCK // (S * T))
    values_R = np.empty(resamples)
    for start in range(0, resamples, block):
        R = min(block, resamples - start)
        drawn_RST = rng.integers(S, size=(R, S, T))
        values_R[start : start + R] = statistic(scores_ST[drawn_RST, np.arange(T)])
    return values_R


def _bounds(values_R: Array, confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, but is {confidence}; 0.95 would do")
    tail = (1 - confidence) / 2
    low, high = np.quantile(values_R, [tail, 1 - tail])
    return float(low), float(high)


def _checked(scores: ArrayLike) -> Array:
    scores_ST = np.asarray(scores, dtype=np.float64)
    if scores_ST.ndim != 2:  # noqa: PLR2004
        raise ValueError(
            f"scores must be seeds x tasks, but have the shape {scores_ST.shape}; "
            "give one row a seed and one column a task, even if there is only one"
        )
    if scores_ST.size == 0:
        raise ValueError(
            f"scores must not be empty, but have the shape {scores_ST.shape}; "
            "give at least one seed and one task"
        )
    wrong = np.argwhere(~np.isfinite(scores_ST))
    if len(wrong):
        seed, task = wrong[0]
        raise ValueError(
            f"scores must be finite, but {len(wrong)} of {scores_ST.size} are not, first in "
            f"row {seed}, column {task}; play what is missing before asking for a number"
        )
    return scores_ST


def _checked_pair(scores_XST: ArrayLike, scores_YST: ArrayLike) -> tuple[Array, Array]:
    x_ST, y_ST = _checked(scores_XST), _checked(scores_YST)
    if x_ST.shape[1] != y_ST.shape[1]:
        raise ValueError(
            "both sides must have the same tasks, but have "
            f"{x_ST.shape[1]} and {y_ST.shape[1]} columns; compare on the tasks they share"
        )
    return x_ST, y_ST


def signed_rank(a_S: Sequence[float], b_S: Sequence[float]) -> float:
    """Return the probability that *a* looks at least so much worse than *b* if they are equal.

    Wilcoxon's signed-rank test of paired seeds, one-sided and exact: equal seeds are left out,
    and differences of one size share their ranks. 1 where no seed differs; it takes four seeds to
    come below 0.1.
    """
    by_S = [b - a for a, b in zip(a_S, b_S, strict=True) if a != b]
    sizes = sorted(abs(by) for by in by_S)
    twice = {by: 2 * bisect_left(sizes, by) + 1 + sizes.count(by) for by in sizes}
    """Twice the rank of each size: a whole number, also where ranks are shared."""
    seen = sum(twice[by] for by in by_S if by > 0)
    ways = Counter({0: 1})  # of giving signs: how many have each sum of ranks
    for by in by_S:
        ways = ways + Counter({total + twice[abs(by)]: n for total, n in ways.items()})
    as_seen: int = sum(n for total, n in ways.items() if total >= seen)
    return as_seen / 2.0 ** len(by_S)
