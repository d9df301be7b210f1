"""Point estimates and intervals, by hand and by law. Against a peer: slow/test_statistics_peer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from rigorl.analysis import statistics
from rigorl.analysis.statistics import (
    iqm,
    iqms,
    mean,
    means,
    probability_of_improvement,
    stratified_bootstrap,
)

Array = NDArray[np.float64]
FEW = settings(max_examples=40, deadline=None)
FINITE = st.floats(-1e3, 1e3)
MATRICES = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=FINITE)
PAIRS = st.integers(1, 4).flatmap(
    lambda tasks: st.tuples(
        *[
            st.integers(1, 5).flatmap(
                lambda seeds: arrays(np.float64, (seeds, tasks), elements=st.integers(-2, 2))
            )
        ]
        * 2
    )
)


def test_iqm_is_the_mean_of_the_middle_half() -> None:
    assert iqm([[100.0, 2.0], [3.0, -100.0]]) == 2.5
    assert iqm([[1.0], [2.0], [9.0]]) == 4.0  # a quarter of three, rounded down, is none
    assert iqm(np.arange(12.0).reshape(3, 4)) == 5.5
    assert mean([[1.0, 2.0], [3.0, 6.0]]) == 3.0


@pytest.mark.parametrize(
    ("scores", "fact"),
    [
        (np.zeros(3), r"seeds x tasks, but have the shape \(3,\); give one row a seed"),
        (np.zeros((2, 2, 2)), "seeds x tasks"),
        (np.zeros((0, 2)), "must not be empty"),
        ([[1.0, np.nan], [2.0, 3.0]], "1 of 4 are not, first in row 0, column 1; play what"),
        ([[1.0, np.inf]], "must be finite"),
    ],
)
def test_what_is_no_matrix_of_scores_is_refused(scores: Array, fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        iqm(scores)
    with pytest.raises(ValueError, match=fact):
        mean(scores)
    with pytest.raises(ValueError, match=fact):
        stratified_bootstrap(scores)
    with pytest.raises(ValueError, match=fact):
        probability_of_improvement([[1.0, 2.0]], scores)


def test_sides_with_other_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="the same tasks, but have 2 and 1 columns"):
        probability_of_improvement([[1.0, 2.0]], [[1.0]])


def test_nonsense_about_the_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="resamples must be at least 1"):
        stratified_bootstrap([[1.0]], resamples=0)
    with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
        stratified_bootstrap([[1.0]], confidence=95)


def test_the_same_seed_gives_the_same_interval() -> None:
    scores_ST = np.random.default_rng(0).normal(size=(10, 4))
    assert stratified_bootstrap(scores_ST, seed=3) == stratified_bootstrap(scores_ST, seed=3)
    assert stratified_bootstrap(scores_ST, seed=3) != stratified_bootstrap(scores_ST, seed=4)


def test_seeds_are_resampled_within_each_task() -> None:
    """Seeds that agree on each task leave no doubt, however far apart the tasks are."""
    scores_ST = np.tile([0.0, 10.0, 500.0], (8, 1))
    assert statistics.interval(scores_ST, means, seed=0) == (170.0, 170.0, 170.0)


def test_tasks_are_resampled_apart() -> None:
    """Whole rows would keep these seeds' sums at 0; single scores do not."""
    scores_ST = np.array([[1.0, -1.0], [-1.0, 1.0]] * 5)
    low, high = stratified_bootstrap(scores_ST, seed=0, statistic=means)
    assert low < -0.2 < 0.2 < high


def test_many_resamples_are_drawn_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    scores_ST = np.random.default_rng(0).normal(size=(7, 3))
    whole = stratified_bootstrap(scores_ST)
    monkeypatch.setattr(statistics, "BLOCK", 1000)
    assert stratified_bootstrap(scores_ST) == pytest.approx(whole, abs=0.1)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    holds = 0
    for seed in range(200):
        low, high = stratified_bootstrap(
            rng.normal(size=(30, 1)), seed, statistic=means, resamples=400
        )
        holds += low <= 0 <= high
    assert 0.88 <= holds / 200 <= 0.99


@FEW
@given(MATRICES)
def test_iqm_lies_between_the_extremes_and_moves_with_the_scores(scores_ST: Array) -> None:
    value = iqm(scores_ST)
    assert scores_ST.min() - 1e-9 <= value <= scores_ST.max() + 1e-9
    assert iqm(2 * scores_ST - 1) == pytest.approx(2 * value - 1, abs=1e-9)
    assert iqm(scores_ST[::-1, ::-1]) == pytest.approx(value, abs=1e-9)


@FEW
@given(MATRICES)
def test_bounds_are_in_order_and_no_further_than_the_scores(scores_ST: Array) -> None:
    low, high = stratified_bootstrap(scores_ST, resamples=50)
    assert scores_ST.min() - 1e-9 <= low <= high <= scores_ST.max() + 1e-9


@FEW
@given(MATRICES)
def test_many_matrices_at_once_are_each_one_alone(scores_ST: Array) -> None:
    both = np.stack([scores_ST, -scores_ST])
    assert iqms(both) == pytest.approx([iqm(scores_ST), iqm(-scores_ST)], abs=1e-9)
    assert means(both) == pytest.approx([mean(scores_ST), mean(-scores_ST)], abs=1e-9)


def test_probability_of_improvement_by_hand() -> None:
    # task 0: 3 of 6 pairs won and 1 tied; task 1: all won
    x_ST, y_ST = [[1.0, 9.0], [3.0, 9.0]], [[0.0, 1.0], [1.0, 1.0], [4.0, 1.0]]
    assert probability_of_improvement(x_ST, y_ST) == pytest.approx((3.5 / 6 + 1) / 2)


@FEW
@given(PAIRS)
def test_one_side_gains_what_the_other_loses(sides: tuple[Array, Array]) -> None:
    x_ST, y_ST = sides
    chance = probability_of_improvement(x_ST, y_ST)
    assert 0 <= chance <= 1
    assert chance + probability_of_improvement(y_ST, x_ST) == pytest.approx(1)
    assert probability_of_improvement(x_ST, x_ST) == pytest.approx(0.5)
    brute = [
        (a > b) + 0.5 * (a == b)
        for x_S, y_S in zip(x_ST.T, y_ST.T, strict=True)
        for a in x_S
        for b in y_S
    ]
    assert chance == pytest.approx(np.mean(brute))


def test_improvement_has_an_interval_with_its_point_in_it() -> None:
    rng = np.random.default_rng(1)
    x_ST, y_ST = rng.normal(0.5, size=(8, 3)), rng.normal(size=(5, 3))
    point, low, high = statistics.improvement(x_ST, y_ST, seed=0)
    assert point == pytest.approx(probability_of_improvement(x_ST, y_ST))
    assert 0 <= low < point < high <= 1
    assert statistics.improvement(x_ST + 9, y_ST, seed=0) == (1.0, 1.0, 1.0)


def test_a_difference_is_that_of_the_points() -> None:
    rng = np.random.default_rng(1)
    x_ST, y_ST = rng.normal(5.0, size=(8, 3)), rng.normal(size=(5, 3))
    point, low, high = statistics.difference(x_ST, y_ST, iqms, seed=0)
    assert point == pytest.approx(iqm(x_ST) - iqm(y_ST))
    assert low < point < high
