"""Scores of made-up sequences of tasks, for Hypothesis."""

import math

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

Array = NDArray[np.float64]
nan = math.nan
FEW = settings(max_examples=30, deadline=None)
SCORES = st.one_of(st.floats(-10, 10), st.sampled_from([0.0, 0.5, 1.0]))


@st.composite
def histories(draw: st.DrawFn, holes: bool = False) -> tuple[Array, list[int]]:
    """Draw scores of a sequence of stages, the last one running, and where stages end."""
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    ends = (np.cumsum(lengths) - 1).tolist()
    T, N = len(lengths), sum(lengths)
    values = draw(st.lists(SCORES, min_size=T * N, max_size=T * N))
    scores_TN = np.array(values).reshape(T, N)
    for task, length in enumerate(lengths):
        scores_TN[task, : ends[task] + 1 - length] = nan
    if holes:  # but not where a task was learned
        at = draw(st.lists(st.tuples(st.integers(0, T - 1), st.integers(0, N - 1))))
        for task, n in at:
            if n != ends[task]:
                scores_TN[task, n] = nan
    return scores_TN, ends
