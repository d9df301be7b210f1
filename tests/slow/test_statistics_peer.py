"""Our statistics against those of Agarwal et al.'s own library."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rigorl.analysis import statistics
from rigorl.analysis.statistics import iqm, probability_of_improvement, stratified_bootstrap

SHAPES = [(1, 1), (2, 1), (3, 2), (5, 1), (7, 3), (10, 6), (25, 4)]


def drawn(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(scale=scale, size=shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_iqm_is_theirs(shape: tuple[int, int]) -> None:
    from rliable import metrics  # type: ignore[import-untyped]

    scores_ST = drawn(shape, 0, 100)
    theirs = metrics.aggregate_iqm(scores_ST)
    assert iqm(scores_ST) == pytest.approx(theirs, rel=1e-12, abs=1e-12)
    theirs = metrics.aggregate_mean(scores_ST)
    assert statistics.mean(scores_ST) == pytest.approx(theirs, rel=1e-12, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4)), st.integers(0, 1000))
def test_probability_of_improvement_is_theirs(sizes: tuple[int, int, int], seed: int) -> None:
    from rliable import metrics

    x, y, tasks = sizes
    rng = np.random.default_rng(seed)  # whole numbers, so that there are ties
    x_ST = rng.integers(0, 4, (x, tasks)).astype(float)
    y_ST = rng.integers(0, 4, (y, tasks)).astype(float)
    theirs = metrics.probability_of_improvement(x_ST, y_ST)
    assert probability_of_improvement(x_ST, y_ST) == pytest.approx(theirs, abs=1e-12)


def theirs_of(scores: object, statistic: object) -> NDArray[np.float64]:
    from rliable import library

    np.random.seed(0)  # noqa: NPY002  their resampling draws from the global state
    _, bounds = library.get_interval_estimates({"x": scores}, statistic, reps=4_000)
    return np.asarray(bounds["x"][:, 0], dtype=np.float64)


@pytest.mark.parametrize("shape", [(5, 1), (5, 3), (10, 6)])
def test_the_interval_is_theirs_but_for_luck(shape: tuple[int, int]) -> None:
    from rliable import metrics

    scores_ST = drawn(shape, 1)
    theirs = theirs_of(scores_ST, lambda x: np.array([metrics.aggregate_iqm(x)]))
    ours = stratified_bootstrap(scores_ST, seed=0, resamples=4_000)
    assert ours == pytest.approx(theirs, abs=0.08 * (theirs[1] - theirs[0]))


def test_the_interval_of_improvement_is_theirs_but_for_luck() -> None:
    from rliable import metrics

    x_ST, y_ST = drawn((8, 3), 2) + 0.5, drawn((6, 3), 3)
    theirs = theirs_of(
        (x_ST, y_ST), lambda x, y: np.array([metrics.probability_of_improvement(x, y)])
    )
    _, *ours = statistics.improvement(x_ST, y_ST, seed=0)
    assert ours == pytest.approx(theirs, abs=0.1 * (theirs[1] - theirs[0]))
