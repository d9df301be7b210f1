"""Measures after each exam, against the measures of what was seen until then."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigorl.analysis import along, continual

LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@given(lengths=LENGTHS, seed=st.integers(0, 1_000), holes=st.sampled_from([0.0, 0.2]))
def test_each_value_is_that_of_the_scores_until_then(
    lengths: list[int], seed: int, holes: float
) -> None:
    rng = np.random.default_rng(seed)
    stage_N = np.repeat(np.arange(len(lengths)), lengths)
    scores_TN = rng.normal(size=(len(lengths), len(stage_N)))
    begun_TN = np.arange(len(lengths))[:, None] <= stage_N
    hole_TN = rng.random(scores_TN.shape) < holes
    first_TN = np.diff(begun_TN, axis=1, prepend=False)
    hole_TN &= ~first_TN  # a task that was begun was examined
    hole_TN[:, np.flatnonzero(np.diff(stage_N, prepend=-1))] = False
    scores_TN[~begun_TN | hole_TN] = np.nan
    for n in range(len(stage_N)):
        so_far_TN = scores_TN[:, : n + 1]
        learned_at_T = [
            int(np.flatnonzero(stage_N[: n + 1] == task)[-1])
            if (stage_N[: n + 1] == task).any()
            else -1
            for task in range(len(lengths))
        ]
        for mine, known in ((along.forg, continual.forg), (along.wc_acc, continual.wc_acc)):
            assert mine(scores_TN, stage_N)[n] == pytest.approx(
                known(so_far_TN, learned_at_T), nan_ok=True
            )
