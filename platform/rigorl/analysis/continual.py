"""What learning one task did to the others, seen at every evaluation.

De Lange, van de Ven, Tuytelaars 2023, "Continual evaluation for lifelong learning: identifying
the stability gap": average and worst-case accuracy, min-ACC, windowed forgetting and plasticity.

Every function takes `scores_TN`, task x evaluation, NaN before a task's own stage begins, and
most take `learned_at_T`, the index of the last evaluation of each task's own stage; of the
stage that is running, the latest evaluation. Tasks that were not begun (rows of NaN) are left
out. What is undefined is NaN, never 0. Scores may be negative, and are in any unit.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def acc(scores_TN: ArrayLike, learned_at_T: ArrayLike) -> float:
    """Return the mean of the latest scores over the tasks begun (ACC)."""
    final_T, _, _ = _parts(scores_TN, learned_at_T)
    return _mean(final_T)


def la(scores_TN: ArrayLike, learned_at_T: ArrayLike) -> float:
    """Return the learning accuracy: the mean score when each task had just been learned."""
    _, learned_T, _ = _parts(scores_TN, learned_at_T)
    return _mean(learned_T)


def forg(scores_TN: ArrayLike, learned_at_T: ArrayLike) -> float:
    """Return the mean loss of earlier tasks since they were learned (FORG).

    The reference is the score right after learning, not the best one ever seen. NaN while
    there is one task.
    """
    final_T, learned_T, old_T = _parts(scores_TN, learned_at_T)
    return _mean((learned_T - final_T)[old_T])


def min_acc(scores_TN: ArrayLike, learned_at_T: ArrayLike) -> float:
    """Return the mean over earlier tasks of their worst score after they were learned.

    Eq. 2: the minimum is taken of each task first, over evaluations strictly after its stage.
    NaN while there is one task.
    """
    _, _, old_T = _parts(scores_TN, learned_at_T)
    return _mean(_worst(scores_TN, learned_at_T)[old_T])


def wc_acc(scores_TN: ArrayLike, learned_at_T: ArrayLike) -> float:
    """Return the worst-case accuracy: A(E_k)/k + (1 - 1/k) min-ACC, Eq. 6.

    It never lies above ACC. With one task it is that task's latest score.
    """
    final_T, _, old_T = _parts(scores_TN, learned_at_T)
    k = int(np.isfinite(final_T).sum())
    if k <= 1:
        return _mean(final_T)
    current = final_T[~old_T & np.isfinite(final_T)][-1]
    return float(current / k + (1 - 1 / k) * min_acc(scores_TN, learned_at_T))


def windowed_forgetting(scores_TN: ArrayLike, window: int) -> float:
    """Return WF: the largest drop within any *window* evaluations in a row, mean over tasks.

    A drop goes from an earlier to a later evaluation and is at least 0. Two evaluations that
    are neighbours lie in a window of 2; evaluations that do not exist are not counted. NaN
    where no task has two evaluations. Raises ValueError for a window below 2.
    """
    return _windowed(scores_TN, window, sign=1)


def windowed_plasticity(scores_TN: ArrayLike, window: int) -> float:
    """Return WP: the largest rise within any *window* evaluations in a row, mean over tasks.

    It starts from the lowest earlier evaluation of the window; the paper's public code skips
    starts below the best one so far, which is right for drops only. Otherwise as
    `windowed_forgetting`.
    """
    return _windowed(scores_TN, window, sign=-1)


def recovery_time(
    scores_TN: ArrayLike,
    learned_at_T: ArrayLike,
    share: float = 0.95,
    at_N: ArrayLike | None = None,
) -> Array:
    """Return, for each task, how long it stayed below *share* of its score when learned.

    With s that score: from the first later evaluation below s - (1 - share)|s| to the first
    at or above it again. 0 if it never falls below, NaN if it never comes back or was not
    begun. In units of *at_N* (updates or steps at each evaluation), else in evaluations.
    """
    scores, learned_at = _checked(scores_TN, learned_at_T)
    at = np.arange(scores.shape[1]) if at_N is None else np.asarray(at_N, dtype=np.float64)
    times_T = np.full(len(scores), np.nan)
    for t, later_n, s in _later(scores, learned_at):
        below_n = later_n[scores[t, later_n] < s - (1 - share) * abs(s)]
        if not len(below_n):
            times_T[t] = 0.0
            continue
        back_n = later_n[(later_n > below_n[0]) & ~np.isin(later_n, below_n)]
        if len(back_n):
            times_T[t] = at[back_n[0]] - at[below_n[0]]
    return times_T


def gap_depth(scores_TN: ArrayLike, learned_at_T: ArrayLike) -> Array:
    """Return, for each task, how far it fell at worst below its score when learned.

    0 if it never falls below, NaN if it was not begun.
    """
    scores, learned_at = _checked(scores_TN, learned_at_T)
    depth_T = np.full(len(scores), np.nan)
    for t, later_n, s in _later(scores, learned_at):
        depth_T[t] = max(0.0, s - scores[t, later_n].min(initial=s))
    return depth_T


def summary(
    scores_TN: ArrayLike,
    learned_at_T: ArrayLike,
    windows: Sequence[int],
    update_N: ArrayLike,
) -> dict[str, float]:
    """Return every measure by name; depth and recovery (in updates) over earlier tasks."""
    _, _, old_T = _parts(scores_TN, learned_at_T)
    recovery_T = recovery_time(scores_TN, learned_at_T, at_N=update_N)
    found = {
        "acc": acc(scores_TN, learned_at_T),
        "forg": forg(scores_TN, learned_at_T),
        "la": la(scores_TN, learned_at_T),
        "min_acc": min_acc(scores_TN, learned_at_T),
        "wc_acc": wc_acc(scores_TN, learned_at_T),
        "gap_depth": _mean(gap_depth(scores_TN, learned_at_T)[old_T]),
        # a task that never came back has no time: then the mean has none either
        "recovery_updates": float(recovery_T[old_T].mean()) if old_T.any() else np.nan,
    }
    for window in windows:
        found[f"wf{window}"] = windowed_forgetting(scores_TN, window)
        found[f"wp{window}"] = windowed_plasticity(scores_TN, window)
    return found


def _parts(scores_TN: ArrayLike, learned_at_T: ArrayLike) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return final_T, learned_T (both NaN where not begun), and which tasks are earlier ones."""
    scores, learned_at = _checked(scores_TN, learned_at_T)
    begun_T = np.isfinite(scores).any(axis=1)
    final_T, learned_T = np.full((2, len(scores)), np.nan)
    for t in np.flatnonzero(begun_T):
        final_T[t] = scores[t, np.isfinite(scores[t])][-1]
        learned_T[t] = scores[t, learned_at[t]]
    old_T = begun_T.copy()
    if begun_T.any():
        latest = learned_at[begun_T].max()
        old_T[np.flatnonzero(begun_T & (learned_at == latest))[-1]] = False
    return final_T, learned_T, old_T


def _worst(scores_TN: ArrayLike, learned_at_T: ArrayLike) -> Array:
    scores, learned_at = _checked(scores_TN, learned_at_T)
    worst_T = np.full(len(scores), np.nan)
    for t, later_n, _ in _later(scores, learned_at):
        if len(later_n):
            worst_T[t] = scores[t, later_n].min()
    return worst_T


def _later(
    scores_TN: Array, learned_at_T: NDArray[np.intp]
) -> list[tuple[int, NDArray[np.intp], float]]:
    """Return, of each task begun, its later evaluations, and its score when learned."""
    evaluations = np.arange(scores_TN.shape[1])
    return [
        (
            t,
            evaluations[(evaluations > at) & np.isfinite(scores_TN[t])],
            float(scores_TN[t, at]),
        )
        for t, at in enumerate(learned_at_T)
        if np.isfinite(scores_TN[t]).any()
    ]


def _windowed(scores_TN: ArrayLike, window: int, sign: int) -> float:
    if window < 2:  # noqa: PLR2004
        raise ValueError(
            f"a window must hold at least 2 evaluations, but holds {window}; a change needs two"
        )
    scores = sign * np.atleast_2d(np.asarray(scores_TN, dtype=np.float64))
    changes = []
    for row in scores:
        series = row[np.isfinite(row)]
        lags = range(1, min(window, len(series)))
        drops = [float((series[:-lag] - series[lag:]).max()) for lag in lags]
        if drops:
            changes.append(max(0.0, *drops))
    return float(np.mean(changes)) if changes else np.nan


def _checked(scores_TN: ArrayLike, learned_at_T: ArrayLike) -> tuple[Array, NDArray[np.intp]]:
    scores = np.asarray(scores_TN, dtype=np.float64)
    learned_at = np.asarray(learned_at_T, dtype=np.intp)
    if scores.ndim != 2 or learned_at.shape != scores.shape[:1]:  # noqa: PLR2004
        raise ValueError(
            "scores must be task x evaluation with one learned_at for each task, but have "
            f"shapes {scores.shape} and {learned_at.shape}; add the missing axis"
        )
    for t, at in enumerate(learned_at):
        begun = np.isfinite(scores[t]).any()
        if begun and not (0 <= at < scores.shape[1] and np.isfinite(scores[t, at])):
            raise ValueError(
                f"a task must have a score where it was learned, but task {t} has none at "
                f"evaluation {at}; evaluate it at the end of its stage"
            )
    return scores, learned_at


def _mean(values: Array) -> float:
    """Return the mean of what is defined, NaN where nothing is."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else np.nan
