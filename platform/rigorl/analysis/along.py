"""FORG and WC-ACC after each exam of a trial, in one pass: what a search needs of long curves.

The same as `continual.forg` and `continual.wc_acc` of the scores up to there (a test compares),
where each stage learns the task of its number. Scores are `scores_TN`, NaN before a task begins.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


def forg(scores_TN: Array, stage_N: Counts) -> Array:
    """Return forg_N; NaN while there is but one task."""
    now_TN, learned_TN, _ = _along(scores_TN, stage_N)
    return _mean_of_old(learned_TN - now_TN, stage_N)


def wc_acc(scores_TN: Array, stage_N: Counts) -> Array:
    """Return wc_N; with one task it is that task's latest score."""
    now_TN, _, lowest_TN = _along(scores_TN, stage_N)
    current_N = now_TN[stage_N, np.arange(len(stage_N))]
    low_N = np.where(stage_N > 0, _mean_of_old(lowest_TN, stage_N), 0.0)
    wc_N: Array = (stage_N * low_N + current_N) / (stage_N + 1)
    return wc_N


def _along(scores_TN: Array, stage_N: Counts) -> tuple[Array, Array, Array]:
    """Return, after each exam, the latest score, that when learned, and the lowest since."""
    now_TN, learned_TN, lowest_TN = (np.full(scores_TN.shape, np.nan) for _ in range(3))
    for task, score_N in enumerate(scores_TN):
        seen_N = np.isfinite(score_N)
        place_N = np.maximum.accumulate(np.where(seen_N, np.arange(len(score_N)), -1))
        now_TN[task] = np.where(place_N >= 0, score_N[place_N], np.nan)
        old_N = stage_N > task
        if old_N.any():
            first = int(old_N.argmax())
            learned_TN[task, old_N] = now_TN[task, first - 1]
            lowest_TN[task, first:] = np.fmin.accumulate(score_N[first:])
    return now_TN, learned_TN, lowest_TN


def _mean_of_old(values_TN: Array, stage_N: Counts) -> Array:
    old_TN = np.arange(len(values_TN))[:, None] < stage_N
    with np.errstate(invalid="ignore"):
        mean_N: Array = np.where(old_TN, values_TN, 0.0).sum(0) / old_TN.sum(0)
    return mean_N
