"""Forward transfer: what earlier tasks did for the learning of a later one.

Wolczyk et al. 2021, "Continual World" (arXiv 2105.10919): FT = (AUC - AUC_b) / (1 - AUC_b),
where AUC is the mean score over the steps of the task's own stage, in the sequence and (b) in
a trial of the same agent on the same seed that learns this task alone.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rigorl.analysis.curves import Curve, mean_over_steps

Array = NDArray[np.float64]


def forward_transfer(auc_T: Array, alone_T: Array) -> Array:
    """Return FT_T: 1 if all that was left to gain was gained, negative where earlier tasks hurt.

    Needs scores of which 1 is as good as it gets. NaN where learning alone left nothing to gain.
    """
    left_T: Array = 1 - alone_T
    left_T = np.where(left_T > 0, left_T, np.nan)
    return (auc_T - alone_T) / left_T


def areas(curve: Curve, alone: Mapping[str, Curve]) -> tuple[Array, Array]:
    """Return auc_T and alone_T in raw returns: the mean over the steps of each own stage.

    Both are taken at regular exams alone, for only a sequence has dense ones. NaN where there
    is no trial on the task *alone*, or where it was examined at other steps: curves of other
    grids have other areas.
    """
    auc_T, alone_T = (np.full(len(curve.tasks), np.nan) for _ in range(2))
    for row, task in enumerate(curve.tasks):
        if task not in alone:
            continue
        step_N, score_N = _stage(curve, row, row)
        step_M, score_M = _stage(alone[task], 0, 0)
        if len(step_N) and np.array_equal(step_N, step_M):
            auc_T[row] = mean_over_steps(score_N, step_N)
            alone_T[row] = mean_over_steps(score_M, step_M)
    return auc_T, alone_T


def over_seeds(
    curves: Sequence[Curve], alone: Sequence[Mapping[str, Curve]]
) -> tuple[Array, Array]:
    """Return `areas` of each seed as auc_ST and alone_ST."""
    found = [areas(curve, single) for curve, single in zip(curves, alone, strict=True)]
    return np.array([auc_T for auc_T, _ in found]), np.array([alone_T for _, alone_T in found])


def _stage(curve: Curve, row: int, stage: int) -> tuple[NDArray[np.int64], Array]:
    """Return steps and returns of a task at the regular exams of *stage*."""
    there_N = (curve.stage_N == stage) & curve.regular_N & ~np.isnan(curve.scores_TN[row])
    return curve.step_N[there_N], curve.scores_TN[row, there_N]
