"""What learning a sequence of tasks did to an agent, evaluated all along.

De Lange, van de Ven & Tuytelaars 2023, "Continual evaluation for lifelong learning:
identifying the stability gap" (arXiv 2205.13452); cited below as CE.

All functions take `scores_TN`, task x evaluation, NaN before a task's own stage begins, and
return numbers in the unit of the scores unless they say otherwise. `learned_at_T` is the index,
along N, of the last evaluation of each task's own stage, and the latest one for the stage that
is running (an index beyond it means the same there). The *current* task is the one learned
last; *old* ones came before it. Tasks not begun, rows of NaN, are left out, whatever their
`learned_at_T`. A NaN later on means that the task was not examined then: its evaluations are
those that took place. What is undefined is NaN, and never 0.

Raises `ValueError` where shapes do not fit, a score is infinite, or `learned_at_T` cannot be.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


class Task(NamedTuple):
    """A task that was begun. `later_L` came strictly after it was learned, at `places_L`."""

    row: int
    learned: float
    now: float
    later_L: Array
    places_L: Counts


def acc(scores_TN: ArrayLike, learned_at_T: ArrayLike) -> float:
    """Return ACC: the mean of the latest scores of all tasks begun."""
    return mean(task.now for task in begun(scores_TN, learned_at_T))


def la(scores_TN: ArrayLike, learned_at_T: ArrayLike) -> float:
    """Return learning accuracy: the mean of what each task begun scored when learned."""
    return mean(task.learned for task in begun(scores_TN, learned_at_T))


def forg(scores_TN: ArrayLike, learned_at_T: ArrayLike) -> float:
    """Return FORG: what old tasks lost from when they were learned to now, their mean.

    Against the score when learned, as in CE, and not against the highest since. NaN while
    there is but one task.
    """
    old = begun(scores_TN, learned_at_T)[:-1]
    return mean(task.learned - task.now for task in old)


def min_acc(scores_TN: ArrayLike, learned_at_T: ArrayLike) -> float:
    """Return min-ACC: each old task's lowest score after it was learned, then their mean.

    CE eq. 2. NaN while there is but one task.
    """
    old = begun(scores_TN, learned_at_T)[:-1]
    return mean(_lowest(task.later_L) for task in old)


def wc_acc(scores_TN: ArrayLike, learned_at_T: ArrayLike) -> float:
    """Return WC-ACC: (1/k) latest score of the current task + (1 - 1/k) min-ACC, at k tasks.

    CE eq. 6; never above ACC. With one task it is that task's latest score.
    """
    # The weights 1/k and (k - 1)/k make it a plain mean over the k tasks.
    tasks = begun(scores_TN, learned_at_T)
    old, current = tasks[:-1], tasks[-1:]
    return mean([_lowest(task.later_L) for task in old] + [task.now for task in current])


def windowed_forgetting(scores_TN: ArrayLike, window: int) -> float:
    """Return WF: the largest fall between two evaluations of one window, mean over tasks.

    A window holds *window* evaluations of the task in a row, so the number depends on how
    often it is examined. Never negative: 0 if nothing fell, or if there was one evaluation.
    Needs no boundaries between tasks. O(T N), whatever the window.
    """
    return mean(_largest_fall(x_N, _window(window)) for x_N in _series(scores_TN))


def windowed_plasticity(scores_TN: ArrayLike, window: int) -> float:
    """Return WP: the largest rise between two evaluations of one window, mean over tasks.

    As `windowed_forgetting`, of the scores upside down: a rise is best begun at the *lowest*
    score of the window.
    """
    return mean(_largest_fall(-x_N, _window(window)) for x_N in _series(scores_TN))


def gap_depth(scores_TN: ArrayLike, learned_at_T: ArrayLike) -> Array:
    """Return depth_T: the score when learned minus the lowest score after.

    0 if no later score is lower (so for the current task), NaN for a task not begun.
    """
    depth_T = np.full(len(matrix(scores_TN)), np.nan)
    for task in begun(scores_TN, learned_at_T):
        depth_T[task.row] = max(0.0, task.learned - task.later_L.min(initial=task.learned))
    return depth_T


def recovery_time(
    scores_TN: ArrayLike,
    learned_at_T: ArrayLike,
    share: float = 0.95,
    at_N: ArrayLike | None = None,
) -> Array:
    """Return time_T: how long the first dip below *share* of the score when learned lasted.

    With s that score, from the first later score below s - (1 - share) |s| to the first at or
    above it again. 0 if none was below (so for the current task), NaN if it has not come back
    yet, and for a task not begun. In units of *at_N*, the updates or steps at which
    evaluations were made; without it in evaluations of that task.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], but is {share}; 0.95 would do")
    scores_TN = matrix(scores_TN)
    clock_N = None if at_N is None else clock(at_N, scores_TN.shape[1])
    time_T = np.full(len(scores_TN), np.nan)
    for task in begun(scores_TN, learned_at_T):
        at_L = np.arange(len(task.later_L)) if clock_N is None else clock_N[task.places_L]
        below_L = task.later_L < task.learned - (1 - share) * abs(task.learned)
        if not below_L.any():
            time_T[task.row] = 0.0
            continue
        fell = int(below_L.argmax())
        back = fell + np.flatnonzero(~below_L[fell:])
        if len(back):
            time_T[task.row] = at_L[back[0]] - at_L[fell]
    return time_T


def summary(
    scores_TN: ArrayLike, learned_at_T: ArrayLike, windows: Sequence[int], at_N: ArrayLike
) -> dict[str, float]:
    """Return everything above under short names, one number each; *at_N* counts updates.

    `gap_depth` and `recovery_updates` are means over the old tasks for which they are defined;
    `unrecovered` counts the others: old tasks that fell and have not come back, without which
    the mean time of those that did would flatter.
    """
    old = [task.row for task in begun(scores_TN, learned_at_T)[:-1] if len(task.later_L)]
    depth_T = gap_depth(scores_TN, learned_at_T)[old]
    time_T = recovery_time(scores_TN, learned_at_T, at_N=at_N)[old]
    back_T = ~np.isnan(time_T)
    return {
        "acc": acc(scores_TN, learned_at_T),
        "forg": forg(scores_TN, learned_at_T),
        "la": la(scores_TN, learned_at_T),
        "min_acc": min_acc(scores_TN, learned_at_T),
        "wc_acc": wc_acc(scores_TN, learned_at_T),
        **{f"wf{window}": windowed_forgetting(scores_TN, window) for window in windows},
        **{f"wp{window}": windowed_plasticity(scores_TN, window) for window in windows},
        "gap_depth": mean(depth_T),
        "recovery_updates": mean(time_T[back_T]),
        "unrecovered": float((~back_T).sum()) if old else np.nan,
    }


def _largest_fall(x_N: Array, window: int) -> float:
    """Return max(0, x[m] - x[n]) over m < n < m + window."""
    return float((_highest(x_N, window) - x_N).max())


def _highest(x_N: Array, window: int) -> Array:
    """Return at each n the highest of the last *window* values up to n.

    Cut into blocks of a window's length, a window is the end of one block and the beginning
    of the next: two running maxima serve all windows (van Herk 1992; Gil & Werman 1993).
    """
    N = len(x_N)
    width = min(window, N)
    padding = np.full(-N % width, -np.inf)
    blocks_BW = np.concatenate([x_N, padding]).reshape(-1, width)
    since_N = np.maximum.accumulate(blocks_BW, axis=1).ravel()[:N]
    until_N = np.maximum.accumulate(blocks_BW[:, ::-1], axis=1)[:, ::-1].ravel()
    highest_N = since_N.copy()
    highest_N[width - 1 :] = np.maximum(since_N[width - 1 :], until_N[: N - width + 1])
    return highest_N


def begun(scores: ArrayLike, learned_at: ArrayLike) -> list[Task]:
    """Return the tasks that were begun in the order of their stages, the current one last."""
    scores_TN = matrix(scores)
    learned_at_T = _learned_at(scores_TN, learned_at)
    tasks = []
    for row in np.argsort(learned_at_T, kind="stable"):
        x_N = scores_TN[row]
        places = np.flatnonzero(~np.isnan(x_N))
        if not len(places):
            continue
        own = places[places <= learned_at_T[row]]
        if not len(own):
            raise ValueError(
                "learned_at must not come before a task is first examined, but is "
                f"{learned_at_T[row]} for row {row}, examined from {places[0]} on; "
                "give the index of the last evaluation of the task's own stage"
            )
        later = places[len(own) :]
        learned, now = float(x_N[own[-1]]), float(x_N[places[-1]])
        tasks.append(Task(int(row), learned, now, x_N[later], later))
    return tasks


def _series(scores_TN: ArrayLike) -> list[Array]:
    """Return the evaluations of each task that was begun."""
    rows = [x_N[~np.isnan(x_N)] for x_N in matrix(scores_TN)]
    return [x_N for x_N in rows if len(x_N)]


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return float(np.mean(values)) if values else np.nan


def _lowest(values: Array) -> float:
    return float(values.min()) if len(values) else np.nan


def matrix(scores: ArrayLike) -> Array:
    scores_TN = np.asarray(scores, dtype=np.float64)
    if scores_TN.ndim != 2 or scores_TN.size == 0:  # noqa: PLR2004
        raise ValueError(
            "scores must be tasks x evaluations, at least one of each, but have the shape "
            f"{scores_TN.shape}; give one row a task"
        )
    if np.isinf(scores_TN).any():
        row, place = np.argwhere(np.isinf(scores_TN))[0]
        raise ValueError(
            f"scores must be finite, or NaN where there is none, but row {row} is "
            f"{scores_TN[row, place]} at evaluation {place}; find out which exam gave that"
        )
    return scores_TN


def _learned_at(scores_TN: Array, learned_at: ArrayLike) -> Counts:
    T, N = scores_TN.shape
    given_T = np.asarray(learned_at, dtype=np.float64)
    if given_T.shape != (T,):
        raise ValueError(
            f"learned_at must have one index a task, but has the shape {given_T.shape} for "
            f"{T} tasks; give any index for tasks not begun"
        )
    begun_T = ~np.isnan(scores_TN).all(axis=1)
    indices_T = given_T[begun_T]
    if not ((indices_T >= 0) & (indices_T == np.floor(indices_T))).all():
        raise ValueError(
            f"learned_at must be indices from 0 on, but is {given_T.tolist()}; "
            "count evaluations from the left"
        )
    if (indices_T >= N).sum() > 1:
        raise ValueError(
            f"learned_at must be below {N}, the number of evaluations, for all but the stage "
            f"that is running, but is {given_T.tolist()}; count evaluations, not updates"
        )
    return np.where(begun_T, np.minimum(given_T, N - 1), -1).astype(np.int64)


def clock(at: ArrayLike, evaluations: int) -> Array:
    at_N = np.asarray(at, dtype=np.float64)
    if at_N.shape != (evaluations,) or not (np.diff(at_N) >= 0).all():
        raise ValueError(
            f"at must have one number an evaluation, {evaluations} of them, and never fall, "
            f"but has the shape {at_N.shape}; give updates or steps since birth, in order"
        )
    return at_N


def _window(window: int) -> int:
    if window < 1:
        raise ValueError(f"window must hold evaluations, but is {window}; 10 would do")
    return window
