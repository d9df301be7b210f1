"""The process behind PB2, against what can be worked out by other means."""

import numpy as np
import pytest

from rigorl import bandit
from rigorl.bandit import Belief, Kernel, Tried, covariance, expected, hope

RNG = np.random.default_rng(0)
X, Y = RNG.random((6, 2)), RNG.random((4, 2))


def squared_exponential(length: float) -> np.ndarray:
    return np.array([[np.exp(-((x - y) @ (x - y)) / (2 * length**2)) for y in Y] for x in X])


def test_at_one_time_gains_go_together_as_settings_are_near() -> None:
    found = covariance(Kernel(0.3, 0.5, 0.1), X, np.full(6, 4.0), Y, np.full(4, 4.0))
    np.testing.assert_allclose(found, squared_exponential(0.3))


def test_what_forgets_nothing_does_not_look_at_the_time() -> None:
    found = covariance(Kernel(0.3, 0.0, 0.1), X, RNG.random(6) * 9, Y, RNG.random(4) * 9)
    np.testing.assert_allclose(found, squared_exponential(0.3))


def test_a_unit_of_time_takes_its_share() -> None:
    kernel = Kernel(0.3, 0.19, 0.1)
    found = covariance(kernel, X, np.zeros(6), Y, np.array([0.0, 1.0, 2.0, 4.0]))
    np.testing.assert_allclose(found, squared_exponential(0.3) * [1, 0.9, 0.81, 0.81**2])


def test_belief_is_that_of_the_textbook() -> None:
    """Rasmussen, Williams 2006, equations 2.25 and 2.26, by inverses."""
    kernel, time_N, gain_N = Kernel(0.4, 0.1, 0.1), np.arange(6.0), RNG.normal(size=6)
    belief = Belief(Tried(X, time_N, gain_N), kernel)
    mean, deviation = expected(belief, np.empty((0, 2)), 6.0, Y)
    now = np.full(4, 6.0)
    inverse = np.linalg.inv(covariance(kernel, X, time_N, X, time_N) + 0.1 * np.eye(6))
    across = covariance(kernel, X, time_N, Y, now)
    np.testing.assert_allclose(mean, across.T @ inverse @ gain_N)
    np.testing.assert_allclose(deviation**2, 1 - np.diag(across.T @ inverse @ across))


def test_what_is_chosen_already_narrows_the_deviation_and_leaves_the_mean() -> None:
    belief = Belief(Tried(X, np.zeros(6), RNG.normal(size=6)), Kernel(0.2, 0.1, 0.01))
    mean, deviation = expected(belief, np.empty((0, 2)), 1.0, Y)
    same, narrower = expected(belief, Y[:1], 1.0, Y)
    np.testing.assert_allclose(same, mean)
    assert narrower[0] < 0.15 < deviation[0]
    assert (narrower <= deviation + 1e-12).all()


def test_the_most_hopeful_point_is_that_of_a_fine_grid() -> None:
    x = np.array([[0.1], [0.3], [0.5], [0.9]])
    belief = bandit.learned(
        Tried(x, np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.8, 1.0, -1.0]))
    )
    none, grid = np.empty((0, 1)), np.linspace(0, 1, 2001)[:, None]
    best = grid[np.argmax(hope(belief, none, 2.0, grid))]
    pool = np.random.default_rng(1).random((50, 1))
    found = bandit.climbed(belief, none, 2.0, bandit.best(belief, none, 2.0, pool), RNG)
    assert found == pytest.approx(best, abs=2e-3)
    assert 0.3 < found < 0.7


def test_the_likeliest_kernel_is_long_for_what_is_smooth_and_short_for_what_is_not() -> None:
    x = np.linspace(0, 1, 30)[:, None]
    smooth, rough = (Tried(x, np.zeros(30), np.sin(a * x[:, 0])) for a in (3.0, 20.0))
    assert bandit.learned(smooth).kernel.length >= 2 * bandit.learned(rough).kernel.length


def test_it_learns_that_gains_change_with_time() -> None:
    x = np.tile(np.linspace(0, 1, 6), 12)[:, None]
    time = np.repeat(np.arange(12.0), 6)
    turning = np.sin(time) * (x[:, 0] - 0.5)
    still = x[:, 0] - 0.5
    assert bandit.learned(Tried(x, time, still)).kernel.forgets == 0
    assert bandit.learned(Tried(x, time, turning)).kernel.forgets > 0


def test_gains_that_are_all_the_same_say_nothing_and_break_nothing() -> None:
    belief = bandit.learned(Tried(X, np.zeros(6), np.full(6, 3.0)))
    assert np.isfinite(hope(belief, np.empty((0, 2)), 1.0, Y)).all()
