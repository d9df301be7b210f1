"""The stability gap in numbers: how deep, how long, how much of it; and how fast one learns.

Conventions are those of `continual`, on whose measures these stand: `scores_TN`, NaN before a
task's own stage, `learned_at_T`; undefined is NaN. `at_N` says when evaluations were made:
updates or environment steps since birth.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rigorl.analysis.continual import (
    Task,
    begun,
    clock,
    gap_depth,
    matrix,
    mean,
    recovery_time,
    windowed_forgetting,
    windowed_plasticity,
)

Array = NDArray[np.float64]
LOW = 0.1
"""The quantile that stands in for a minimum where exams are noisy."""
BETA = 10
"""Evaluations in LCA, as in the paper."""


class Clocks(NamedTuple):
    """When evaluations were made, since birth."""

    update_N: ArrayLike
    step_N: ArrayLike


class Spans(NamedTuple):
    """How many updates windows of so many evaluations took: `evaluations` in the longest one.

    NaN where no window is full: its measure is then one over all evaluations there are.
    """

    median: float
    low: float
    high: float
    evaluations: int


def gap_area(
    scores_TN: ArrayLike,
    learned_at_T: ArrayLike,
    at_N: ArrayLike,
    *,
    until_back: bool = False,
    share: float = 0.95,
) -> Array:
    """Return area_T: the integral of max(0, score when learned - score) from then on.

    To the end, or *until_back*: until the first dip below *share* is over, as `recovery_time`
    has it. Trapezoids between evaluations, from 0 when learned. In score x units of *at_N*. 0
    for a task that never fell (so for the current one); NaN for one not begun, and one that is
    not back yet.
    """
    scores_TN = matrix(scores_TN)
    at_N = clock(at_N, scores_TN.shape[1])
    area_T = np.full(len(scores_TN), np.nan)
    for task in begun(scores_TN, learned_at_T):
        lost_L, at_L = _lost(scores_TN, task, at_N)
        if until_back:
            dip = _dip(task, share)
            if dip is None:
                continue
            lost_L, at_L = lost_L[: dip + 1], at_L[: dip + 1]
        area_T[task.row] = np.trapezoid(lost_L, at_L)
    return area_T


def low_acc(scores_TN: ArrayLike, learned_at_T: ArrayLike, quantile: float = LOW) -> float:
    """Return min-ACC with a low *quantile* of the later scores of each old task for the lowest.

    One unlucky exam moves a minimum as far as it went, and a quantile hardly. Never below
    min-ACC. NaN while there is but one task.
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile must be from 0 to 1, but is {quantile}; 0.1 would do")
    old = begun(scores_TN, learned_at_T)[:-1]
    return mean(low(task, quantile) for task in old)


def aaa(scores_TN: ArrayLike, at_N: ArrayLike | None = None) -> float:
    """Return AAA: the mean over time of the mean score of the tasks seen by then.

    An evaluation stands for the time since the one before it in *at_N*, counted from 0, so that
    many exams after a switch weigh no more than they last. Without *at_N*, and where no time
    passed, evaluations weigh alike, as in the usual definition with exams at equal distances.
    """
    scores_TN = matrix(scores_TN)
    seen_N = ~np.isnan(scores_TN).all(axis=0)
    if not seen_N.any():
        return np.nan
    score_N = np.nanmean(scores_TN[:, seen_N], axis=0)
    if at_N is None:
        return float(score_N.mean())
    lasted_N = np.diff(clock(at_N, scores_TN.shape[1])[seen_N], prepend=0.0)
    return float(np.average(score_N, weights=lasted_N if lasted_N.any() else None))


def lca(scores_TN: ArrayLike, learned_at_T: ArrayLike, beta: int = BETA) -> Array:
    """Return lca_T: the mean of the first *beta* evaluations of each task's own stage.

    NaN where its stage had fewer.
    """
    if beta < 1:
        raise ValueError(f"beta must count evaluations, but is {beta}; {BETA} would do")
    scores_TN = matrix(scores_TN)
    lca_T = np.full(len(scores_TN), np.nan)
    for task in begun(scores_TN, learned_at_T):
        own = _own(scores_TN, task)
        if len(own) >= beta:
            lca_T[task.row] = own[:beta].mean()
    return lca_T


def window_spans(scores_TN: ArrayLike, at_N: ArrayLike, window: int) -> Array:
    """Return the updates from the first to the last evaluation of each full window, any task."""
    scores_TN = matrix(scores_TN)
    at_N = clock(at_N, scores_TN.shape[1])
    by_task = [at_N[~np.isnan(x_N)] for x_N in scores_TN]
    spans = [at_L[window - 1 :] - at_L[: 1 - window or None] for at_L in by_task]
    return np.concatenate(spans)


def spans(found: Sequence[Array], evaluations: int) -> Spans:
    """Return what `window_spans` of several trials come to."""
    all_of = np.concatenate(found)
    if not len(all_of):
        return Spans(np.nan, np.nan, np.nan, evaluations)
    return Spans(float(np.median(all_of)), float(all_of.min()), float(all_of.max()), evaluations)


def summary(scores_TN: ArrayLike, learned_at_T: ArrayLike, clocks: Clocks) -> dict[str, float]:
    """Return what `continual.summary` does not have, one number each.

    `min_fall`, `wc_fall` and `low_fall` are how far min-ACC, WC-ACC and their robust variant lie
    below what tasks scored when learned. Areas and times are means over old tasks for which
    they are defined; `lca` is the mean over tasks after the first, whose stages have the dense
    exams, and is NaN if one of them lacks evaluations.
    """
    tasks = begun(scores_TN, learned_at_T)
    old = [task for task in tasks[:-1] if len(task.later_L)]
    rows = [task.row for task in old]
    update_N, step_N = clocks
    T = len(tasks)
    fall = mean(task.learned - task.later_L.min() for task in old)
    area_T = gap_area(scores_TN, learned_at_T, update_N)[rows]
    dip_T = gap_area(scores_TN, learned_at_T, update_N, until_back=True)[rows]
    times = {"steps": step_N, "evaluations": None}
    return {
        "low_acc": low_acc(scores_TN, learned_at_T),
        "min_fall": fall,
        "wc_fall": (1 - 1 / T) * fall if T else np.nan,
        "low_fall": mean(task.learned - low(task) for task in old),
        "gap_area": mean(area_T),
        "dip_area": mean(dip_T[~np.isnan(dip_T)]),
        **{
            f"recovery_{unit}": _defined(recovery_time(scores_TN, learned_at_T, at_N=at)[rows])
            for unit, at in times.items()
        },
        "aaa": aaa(scores_TN, update_N),
        f"lca{BETA}": mean(lca(scores_TN, learned_at_T)[[task.row for task in tasks[1:]]]),
    }


def by_task(
    scores_TN: ArrayLike, learned_at_T: ArrayLike, windows: Sequence[int], clocks: Clocks
) -> list[dict[str, float]]:
    """Return, for each task, what its own scores come to: nothing is averaged over tasks.

    For returns that no scale makes comparable. `worst` is the lowest score since it was learned,
    for the current task the latest one: of these WC-ACC is the mean.
    """
    scores_TN = matrix(scores_TN)
    update_N, step_N = clocks
    depth_T = gap_depth(scores_TN, learned_at_T)
    area_T = gap_area(scores_TN, learned_at_T, update_N)
    times = {"updates": update_N, "steps": step_N, "evaluations": None}
    times_T = {u: recovery_time(scores_TN, learned_at_T, at_N=at) for u, at in times.items()}
    found: list[dict[str, float]] = [{} for _ in scores_TN]
    tasks = begun(scores_TN, learned_at_T)
    for task in tasks:
        row, is_old = task.row, task is not tasks[-1]
        lowest = float(task.later_L.min()) if len(task.later_L) else np.nan
        found[row] = {
            "now": task.now,
            "learned": task.learned,
            "forg": task.learned - task.now if is_old else np.nan,
            "lowest": lowest,
            "low": low(task),
            "worst": lowest if is_old else task.now,
            "min_fall": task.learned - lowest,
            "low_fall": task.learned - low(task),
            **{f"wf{w}": windowed_forgetting(scores_TN[[row]], w) for w in windows},
            **{f"wp{w}": windowed_plasticity(scores_TN[[row]], w) for w in windows},
            "gap_depth": float(depth_T[row]) if is_old else np.nan,
            "gap_area": float(area_T[row]) if is_old else np.nan,
            **{
                f"recovery_{unit}": float(time_T[row]) if is_old else np.nan
                for unit, time_T in times_T.items()
            },
        }
    return found


def low(task: Task, quantile: float = LOW) -> float:
    """Return a low quantile of the scores of *task* since it was learned."""
    return float(np.quantile(task.later_L, quantile)) if len(task.later_L) else np.nan


def _lost(scores_TN: Array, task: Task, at_N: Array) -> tuple[Array, Array]:
    """Return what was lost at each evaluation since *task* was learned, 0 then, and when."""
    learned = np.flatnonzero(~np.isnan(scores_TN[task.row]))[-len(task.later_L) - 1]
    lost_L = np.maximum(0.0, task.learned - task.later_L)
    return np.concatenate([[0.0], lost_L]), at_N[np.concatenate([[learned], task.places_L])]


def _dip(task: Task, share: float) -> int | None:
    """Return how many evaluations later the first dip is over: 0 without one, None if it lasts."""
    below_L = task.later_L < task.learned - (1 - share) * abs(task.learned)
    if not below_L.any():
        return 0
    fell = int(below_L.argmax())
    back = np.flatnonzero(~below_L[fell:])
    return fell + int(back[0]) + 1 if len(back) else None


def _own(scores_TN: Array, task: Task) -> Array:
    x_N = scores_TN[task.row]
    seen_N: Array = x_N[~np.isnan(x_N)]
    return seen_N[: len(seen_N) - len(task.later_L)]


def _defined(values: Array) -> float:
    return mean(values[~np.isnan(values)])
