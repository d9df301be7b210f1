"""Linear systems with quadratic cost: closed forms first, then what must hold of any."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rigorl.analysis.lq import (
    System,
    attainable,
    closed,
    h2_cost,
    hinf_riccati,
    l2_gain,
    lqr,
    radius,
    random_system,
    squares,
    summed,
    system,
    worst_ratio,
)
from rigorl.analysis.lq_optimum import beginnings, constrained, descend
from rigorl.analysis.lq_problem import stated

SCALAR = system(1.1, 1, 1, 1, 1)
PUSH = [[0.005], [0.1]]
INTEGRATOR = system([[1, 0.1], [0, 1]], PUSH, PUSH, np.diag([1, 0.1]), 0.1)
seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int) -> System:
    rng = np.random.default_rng(seed)
    return random_system(rng, int(rng.integers(1, 7)), *rng.integers(1, 4, 2).tolist())


def lqr_of(of: System) -> NDArray[np.float64]:
    return lqr(of.A, of.B, of.Q, of.R)


def perturbed(seed: int) -> tuple[System, NDArray[np.float64]]:
    """Return a system and a K that keeps it stable, but is not the LQR."""
    of, rng = drawn(seed), np.random.default_rng(seed)
    best = lqr_of(of)
    K = best + rng.normal(0, 0.2, best.shape)
    while radius(of.A - of.B @ K) >= 0.995:
        K = (K + best) / 2
    return of, K


def test_the_scalar_systems_closed_form() -> None:
    K = lqr_of(SCALAR)
    assert K.item() == pytest.approx(0.703428, abs=1e-6)
    assert h2_cost(*SCALAR, K) == pytest.approx((1.21 + np.sqrt(1.1**4 + 4)) / 2)
    gain = np.sqrt(1 + K.item() ** 2) / (1 - 1.1 + K.item())
    assert l2_gain(*SCALAR, K) == pytest.approx(gain, rel=1e-12)
    assert gain == pytest.approx(2.026132, abs=1e-6)
    assert attainable(*SCALAR) == pytest.approx(np.sqrt(2.21), rel=1e-9)


@pytest.mark.parametrize(
    ("over", "K", "W", "gain"),
    [
        (1.1, 0.997383, 0.372979, 1.573870),
        (1.5, 0.832841, 0.167489, 1.775819),
        (3, 0.731449, 0.036775, 1.962088),
        (100, 0.703452, 3.2e-5, 2.026074),
    ],
)
def test_the_scalar_game(over: float, K: float, W: float, gain: float) -> None:
    solution = hinf_riccati(*SCALAR, over * np.sqrt(2.21))
    assert solution is not None
    assert solution.K.item() == pytest.approx(K, abs=1e-6)
    assert solution.W.item() == pytest.approx(W, abs=1e-6)
    assert l2_gain(*SCALAR, solution.K) == pytest.approx(gain, abs=1e-6)


def test_the_double_integrator() -> None:
    least, K = attainable(*INTEGRATOR), lqr_of(INTEGRATOR)
    assert least == pytest.approx(0.342695, abs=1e-6)
    np.testing.assert_allclose(K, [[2.76235, 2.50754]], atol=1e-5)
    assert l2_gain(*INTEGRATOR, K) == pytest.approx(0.523082, abs=1e-6)
    loop, w_N = closed(INTEGRATOR, K), np.linspace(0, 1, 2001)
    assert w_N[squares(loop, w_N).argmax()] == pytest.approx(0.112, abs=1e-3)
    for over, expected, gain in (
        (1.1, [[5.27443, 6.19564]], 0.371102),
        (1.5, [[3.56343, 3.56875]], 0.438498),
    ):
        solution = hinf_riccati(*INTEGRATOR, over * least)
        assert solution is not None
        np.testing.assert_allclose(solution.K, expected, atol=1e-5)
        assert l2_gain(*INTEGRATOR, solution.K) == pytest.approx(gain, abs=1e-6)


def test_the_constrained_optimum_of_the_scalar_system() -> None:
    K, worth = constrained(*SCALAR, 2.5)
    assert K.item() == pytest.approx((0.5 + np.sqrt(6.1)) / 3, rel=1e-8)
    assert worth == pytest.approx(0.499462, abs=1e-6)
    assert h2_cost(*SCALAR, K) == pytest.approx(2.004258, abs=1e-6)
    central = hinf_riccati(*SCALAR, np.sqrt(2.5))
    assert central is not None  # keeps the law too well
    assert central.K.item() == pytest.approx(1.028917, abs=1e-6)
    assert l2_gain(*SCALAR, central.K) ** 2 == pytest.approx(2.385794, abs=1e-6)


def test_a_law_that_the_lqr_keeps_is_worth_nothing() -> None:
    K, worth = constrained(*SCALAR, 5)
    np.testing.assert_array_equal(K, lqr_of(SCALAR))
    assert worth == 0
    with pytest.raises(ValueError, match=r"eta must be more than 2\.21, .* but is 2"):
        constrained(*SCALAR, 2)


def test_what_a_linear_disturber_comes_to() -> None:
    """The card's 2.8176 and 2.35 have the cost of an x0 in them; nothing exceeds the gain."""
    kappa = 0.99 * (1 - (1.1 - 0.9))
    cost = 1.81 / (1 - 0.992**2)
    ratio = worst_ratio(*SCALAR, 0.9, kappa)
    assert ratio == pytest.approx(cost / (kappa**2 / (1 - 0.992**2) + 1), rel=1e-12)
    assert ratio == pytest.approx(2.814055, abs=1e-6)
    assert worst_ratio(*SCALAR, 0.9, kappa / 2) == pytest.approx(2.257984, abs=1e-6)
    assert l2_gain(*SCALAR, 0.9) ** 2 == pytest.approx(2.828125, rel=1e-12)
    assert worst_ratio(*SCALAR, 0.9, kappa, sigma=1e-3) == pytest.approx(ratio)
    assert worst_ratio(*SCALAR, 0.9, kappa, noise=0.3) > ratio
    assert np.isnan(worst_ratio(*SCALAR, 0.9, 0.8))


def test_a_disturbers_ratio_is_what_a_long_rollout_comes_to() -> None:
    of, K = INTEGRATOR, lqr_of(INTEGRATOR)
    kappa, rng, x = np.array([[0.2, 0.3]]), np.random.default_rng(0), np.zeros(2)
    luck = rng.normal(size=(50_000, 2))
    cost = force = 0.0
    for mine, its in luck:
        w = kappa @ x + 0.5 * mine
        cost, force = cost + x @ (of.Q + K.T @ of.R @ K) @ x, force + w @ w
        x = (of.A - of.B @ K) @ x + of.D @ (w + 0.2 * its)
    ratio = worst_ratio(*of, K, kappa, sigma=0.5, noise=0.2)
    assert cost / force == pytest.approx(ratio, rel=0.05)


def test_an_unstable_loop_has_no_gain() -> None:
    assert l2_gain(*SCALAR, 0) == np.inf
    assert h2_cost(*SCALAR, 0.1) == np.inf


def test_the_gain_where_much_is_singular() -> None:
    assert l2_gain(*SCALAR, 1.1) == pytest.approx(np.sqrt(2.21), rel=1e-12)  # A - BK = 0
    assert l2_gain(0.5, 1, 0, 1, 1, 0) == 0
    assert l2_gain(-0.5, 1, 1, 1, 1, 0) == pytest.approx(2, rel=1e-12)  # at pi
    shift = np.eye(3, k=1)  # A - BK is nilpotent, and the gain the same at all frequencies
    last = np.array([[0.0], [0], [1]])
    first = np.diag([1.0, 0, 0])
    assert l2_gain(shift, last, last, first, 1, np.zeros((1, 3))) == pytest.approx(1, rel=1e-12)
    wide = np.array([[1.0, 2, 3], [0, 0, 0]])  # of rank one
    gain = l2_gain(np.diag([0.5, 0.2]), [[1], [0]], wide, np.eye(2), 1, np.zeros((1, 2)))
    assert gain == pytest.approx(2 * np.sqrt(14), rel=1e-12)


def test_a_narrow_peak_is_found() -> None:
    """One pole at a radius of 1 - 1e-6, at an angle that no grid has."""
    turn = (1 - 1e-6) * np.array([[np.cos(2), -np.sin(2)], [np.sin(2), np.cos(2)]])
    of = system(turn, [[1], [0]], [[1], [0]], np.eye(2), 1)
    grid = np.sqrt(squares(closed(of, np.zeros((1, 2))), 2 + np.linspace(-1e-5, 1e-5, 20001)))
    assert l2_gain(*of, np.zeros((1, 2))) == pytest.approx(grid.max(), rel=1e-9)
    assert grid.max() > 1e5


@pytest.mark.parametrize("seed", [12834, 5791, 9266])
def test_a_peak_is_found_where_no_pole_points_to(seed: int) -> None:
    """The best first look is on the slope of a lower one."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(6, 6))
    A *= rng.uniform(0.3, 0.9) / radius(A)
    D, C = rng.normal(size=(6, 1)), rng.normal(size=(1, 6))
    of, still = system(A, D, D, C.T @ C, 1), np.zeros((1, 6))
    grid = np.sqrt(squares(closed(of, still), np.linspace(0, np.pi, 20001)).max())
    assert l2_gain(*of, still) == pytest.approx(grid, rel=1e-5)


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_no_grid_exceeds_the_gain_and_a_fine_one_comes_near(seed: int) -> None:
    of, K = perturbed(seed)
    gain = l2_gain(*of, K)
    grid = np.sqrt(squares(closed(of, K), np.linspace(0, np.pi, 20001)).max())
    assert grid <= gain * (1 + 1e-12)
    assert grid >= gain * (1 - 1e-4)


@given(seeds, st.floats(0.01, 100))
@settings(max_examples=12, deadline=None)
def test_units_and_coordinates_change_only_what_they_must(seed: int, scale: float) -> None:
    of, K = perturbed(seed)
    gain, cost, least = l2_gain(*of, K), h2_cost(*of, K), attainable(*of)
    larger = of._replace(Q=scale**2 * of.Q, R=scale**2 * of.R)
    assert l2_gain(*larger, K) == pytest.approx(scale * gain, rel=1e-9)
    assert h2_cost(*larger, K) == pytest.approx(scale**2 * cost, rel=1e-9)
    assert attainable(*larger) == pytest.approx(scale * least, rel=1e-7)
    T = np.eye(len(of.A)) + 0.3 * np.random.default_rng(seed).uniform(-1, 1, of.A.shape)
    if np.linalg.cond(T) > 100:
        return
    back = np.linalg.inv(T)
    turned = System(T @ of.A @ back, T @ of.B, T @ of.D, back.T @ of.Q @ back, of.R)
    assert l2_gain(*turned, K @ back) == pytest.approx(gain, rel=1e-8)
    assert h2_cost(*turned, K @ back) == pytest.approx(cost, rel=1e-8)
    assert attainable(*turned) == pytest.approx(least, rel=1e-6)


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_what_is_attainable(seed: int) -> None:
    of = drawn(seed)
    least = attainable(*of)
    assert hinf_riccati(*of, least) is not None
    for share in (1e-6, 0.01, 0.3):
        assert hinf_riccati(*of, least * (1 - share)) is None
    for over in (1 + 1e-6, 1.01, 1.3, 10, 1e4):
        solution = hinf_riccati(*of, least * over)
        assert solution is not None
        assert least * (1 - 1e-6) <= l2_gain(*of, solution.K) <= least * over * (1 + 1e-9)
    assert least <= l2_gain(*of, lqr_of(of)) * (1 + 1e-6)
    np.testing.assert_allclose(solution.K, lqr_of(of), atol=1e-6)  # far above, it is the LQR


@pytest.mark.parametrize("seed", [250, 273, 283])
def test_units_may_be_far_apart(seed: int) -> None:
    of = drawn(seed)
    of = of._replace(Q=1e-4 * of.Q, R=1e3 * of.R)
    least = attainable(*of)
    for over in (1 + 1e-6, 1.01, 10, 1e4):
        assert hinf_riccati(*of, least * over) is not None


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_the_game_is_what_its_iteration_comes_to(seed: int) -> None:
    of = drawn(seed)
    g = 1.2 * attainable(*of)
    solution = hinf_riccati(*of, g)
    assert solution is not None
    P, one = of.Q, np.eye(len(of.A))
    both = of.B @ np.linalg.solve(of.R, of.B.T) - of.D @ of.D.T / g**2
    for _ in range(1000):
        P = of.Q + of.A.T @ P @ np.linalg.solve(one + both @ P, of.A)
    np.testing.assert_allclose(solution.P, P, rtol=1e-6, atol=1e-8 * np.abs(P).max())
    ahead = np.linalg.solve(one + both @ P, of.A)
    np.testing.assert_allclose(of.A - of.B @ solution.K + of.D @ solution.W, ahead, atol=1e-6)


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_costs_and_ratios_hold_to_each_other(seed: int) -> None:
    of, K = perturbed(seed)
    cost, gain = h2_cost(*of, K), l2_gain(*of, K)
    assert cost >= h2_cost(*of, lqr_of(of)) * (1 - 1e-9)
    assert cost <= gain**2 * of.D.shape[1] * (1 + 1e-9)  # a mean over frequencies, and a peak
    rng = np.random.default_rng(seed)
    for size in (0.05, 0.5, 2):
        kappa = rng.normal(0, size, of.D.T.shape)
        ratio = worst_ratio(*of, K, kappa)
        assert np.isnan(ratio) or ratio <= gain**2 * (1 + 1e-9)
    still = worst_ratio(*of, K, np.zeros(of.D.T.shape))
    assert still == pytest.approx(cost / of.D.shape[1], rel=1e-9)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_random_systems_are_as_they_are_said_to_be(seed: int) -> None:
    of = drawn(seed)
    for mine, again in zip(of, drawn(seed), strict=True):
        np.testing.assert_array_equal(mine, again)
    assert 0.8 <= radius(of.A) <= 1.15
    for weight in (of.Q, of.R):
        assert np.all(np.abs(np.linalg.eigvalsh(weight) - 1.25) <= 0.75 + 1e-9)


def test_a_sum_of_powers_is_lyapunovs() -> None:
    F = 0.999 * np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    X = summed(F, np.eye(4))
    np.testing.assert_allclose(X, np.eye(4) + F.T @ X @ F, rtol=1e-10, atol=1e-8)


def test_slopes_are_differences() -> None:
    of, K = perturbed(3)
    for plain in (True, False):
        problem = stated(of, 1.1 * l2_gain(*of, K) ** 2, plain=plain)
        t, w_N = problem.where(K), np.array([0, 0.3, 1, np.pi])
        np.testing.assert_allclose(problem.at(t), K, atol=1e-12)
        move = 1e-6 * np.random.default_rng(0).normal(size=t.size)
        for seen in (problem.cost, lambda t: problem.excess(t, w_N)):  # noqa: B023
            (after, _), (before, _), (_, slope) = seen(t + move), seen(t - move), seen(t)
            np.testing.assert_allclose((after - before) / 2, slope @ move, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("seed", [1, 11, 14, 23, 27])
def test_all_descents_come_to_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    of = random_system(
        rng, *(int(rng.integers(low, high)) for low, high in ((2, 5), (1, 3), (1, 3)))
    )
    least, usual = attainable(*of), l2_gain(*of, lqr_of(of))
    eta = (0.5 * least + 0.5 * usual) ** 2
    ends = [descend(of, eta, K) for K in beginnings(of, eta, 4, seed)]
    assert len(ends) == 4
    for end in ends:
        assert end is not None
        assert end.residual < 1e-3
        assert end.excess <= 1e-6
        assert end.cost == pytest.approx(ends[0].cost, rel=1e-5)  # type: ignore[union-attr]
        assert l2_gain(*of, end.K) ** 2 == pytest.approx(eta, rel=1e-5)
        assert end.cost == pytest.approx(h2_cost(*of, end.K), rel=1e-9)
    K, worth = constrained(*of, eta, seed=seed)
    # d cost / d eta = -lambda
    costs = [h2_cost(*of, constrained(*of, eta * (1 + by), starts=2)[0]) for by in (-1e-3, 1e-3)]
    assert (costs[0] - costs[1]) / (2e-3 * eta) == pytest.approx(worth, rel=0.01)
    # No other K that keeps the law is better.
    for _ in range(100):
        near = K + rng.normal(0, 10 ** rng.uniform(-4, -1), K.shape)
        if l2_gain(*of, near) ** 2 <= eta:
            assert h2_cost(*of, near) >= h2_cost(*of, K) * (1 - 1e-6)


def test_the_optimum_of_two_gains_is_that_of_a_search() -> None:
    """On a line through K of the double integrator, where the law just holds."""
    least = attainable(*INTEGRATOR)
    eta = (1.2 * least) ** 2
    K, worth = constrained(*INTEGRATOR, eta)
    assert worth > 0

    def kept(ratio: float) -> float:
        """Return the least cost of K in a direction, of those that keep the law."""
        sizes = np.linspace(0.5, 2, 100) * K[0, 0]
        found = [np.array([[size, size * ratio]]) for size in sizes]
        costs = [h2_cost(*INTEGRATOR, k) for k in found if l2_gain(*INTEGRATOR, k) ** 2 <= eta]
        return min(costs, default=np.inf)

    ratio = K[0, 1] / K[0, 0]
    best = min(kept(ratio * by) for by in np.linspace(0.8, 1.25, 10))
    assert h2_cost(*INTEGRATOR, K) <= best * (1 + 1e-9)
    assert best <= h2_cost(*INTEGRATOR, K) * 1.02


def test_what_the_study_says_of_a_disturber_is_exact() -> None:
    """By noise alone it is `worst_ratio`, by what it does at rest the gain of what never swings."""
    file = Path(__file__).parents[1] / "experiments" / "hinf" / "linear.py"
    ratio = runpy.run_path(str(file))["ratio"]
    K, kappa, none = np.array([[0.9]]), np.array([[0.6]]), np.zeros(1)
    known = worst_ratio(*SCALAR, 0.9, 0.6)
    assert ratio(SCALAR, K, (kappa, none), 100_000) == pytest.approx(known, rel=1e-4)
    leaning = ratio(SCALAR, K, (np.zeros((1, 1)), np.ones(1)), 100_000)
    assert leaning == pytest.approx(1.81 / 0.8**2, rel=1e-4)
    gain = l2_gain(*SCALAR, 0.9) ** 2
    for slope in (0.5, 0.79, 0.9, 2.0):  # the last ones make it unstable
        assert ratio(SCALAR, K, (np.array([[slope]]), np.ones(1)), 200) <= gain * (1 + 1e-12)


def test_a_row_of_the_study_tells_loops_that_are_not_stable_and_bounds_that_are_none() -> None:
    study = runpy.run_path(str(Path(__file__).parents[1] / "experiments" / "hinf" / "linear.py"))
    K = np.array([[0.9]])
    held = study["Learned"](K, l2_gain(*SCALAR, 0.9), h2_cost(*SCALAR, 0.9), 0.4, 0.95)
    lost = held._replace(gain=np.inf, cost=np.inf)
    told = study["row"]("a", "hinf", SCALAR, 2.5, [held, lost, lost])
    assert "| inf [1.682, inf] | 1.581 (+inf % [+6.4, +inf]) |" in told
    _, due = constrained(*SCALAR, 2.5)
    assert f"| 0.4 [0.4, 0.4] ({due:.3g}, 0) |" in told
    assert "(no bound)" in study["row"]("a", "hinf", SCALAR, 2.0, [held])


@pytest.mark.parametrize(("of", "K"), [(SCALAR, 0.9), (INTEGRATOR, [[4.0, 4.1]])])
@pytest.mark.parametrize("margin", [0.05, 0.2])
def test_who_pays_its_ratio_and_a_margin_plays_best_inside_at_a_price_near_the_gain(
    of: System, K: float | list[list[float]], margin: float
) -> None:
    """What `margin` of `hinf` rests on: price = (1 + margin) ratio, at the best answer to the price.

    Answers to a price are those of Riccati, with an actor that has no say; they exist from the
    squared gain on, so that what pays its own ratio and no more has none inside.
    """
    F, D = closed(of, K)[:2]
    k = np.atleast_2d(K)
    paid, nothing = of.Q + k.T @ of.R @ k, np.zeros_like(of.B)

    def answer(price: float) -> NDArray[np.float64]:
        solved = hinf_riccati(F, nothing, D, paid, of.R, price**0.5)
        assert solved is not None
        return solved.W

    low, high = (squared := l2_gain(*of, K) ** 2) * (1 + 1e-6), squared * (1 + margin)
    for _ in range(40):
        price = (low + high) / 2
        ratio = worst_ratio(*of, K, answer(price))
        assert ratio < squared
        low, high = (price, high) if (1 + margin) * ratio > price else (low, price)
    kappa = answer(price)
    assert (1 + margin) * worst_ratio(*of, K, kappa) == pytest.approx(price)
    assert radius(F + D @ kappa) < 1
    assert squared < price < squared * (1 + margin / 3)
