"""The reference optimum of a linear system: the least nominal cost whose gain is bounded.

Minimise h2_cost(K) subject to l2_gain(K)^2 <= eta, over K of u = -K x.

The nominal cost is smooth in K, and so is the square of the largest singular value at one
frequency, but where two singular values meet. Their maximum over frequencies is not: it has a
kink where two peaks are as high, and is stretched where a peak is about to part. So the law is
seen as one a frequency, of which those near the peaks are kept, and descended in two phases:
SciPy's SLSQP, which bears every start, on a grid that peaks are added to; then Newton's steps of
a quadratic program with frequencies ever closer to each peak, which show the first-order
conditions. The multiplier is the sum of those of all frequencies: d cost / d eta is minus that.

It is no proof of a global optimum. What speaks for one is that all starts come to the same.

Shapes: N frequencies, T numbers in K; others as in lq.py.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.linalg import LinAlgError
from numpy.typing import ArrayLike
from scipy.optimize import minimize, nnls  # type: ignore[import-untyped]

from rigorl.analysis.lq import (
    Matrix,
    System,
    attainable,
    hinf_riccati,
    l2_gain,
    lqr,
    radius,
    system,
)
from rigorl.analysis.lq_problem import UNSTABLE, Array, Problem, stated

GRID_N = np.linspace(0, np.pi, 65)
NEAR_N = np.concatenate([[0.0], *[[-(0.5**i), 0.5**i] for i in range(3, 24)]])
"""Where frequencies are placed around a peak."""
ROUGHLY, EXACTLY = 1e-7, 1e-11
"""By how much gain^2 may exceed eta at the end of a phase, as a share of eta."""
KEPT = 1e-6
"""By how much it may for a descent to count."""
LITTLE = 1e-13
"""A gain of cost, as a share of it, that is none."""


class Optimum(NamedTuple):
    """Where a descent ended. `excess` is that of gain^2 over eta, as a share of eta.

    `residual`: how long the slope of the Lagrangian is, as a share of that of the cost; the
    first-order conditions say 0.
    """

    K: Matrix
    cost: float
    multiplier: float
    residual: float
    excess: float


def constrained(
    A: ArrayLike,
    B: ArrayLike,
    D: ArrayLike,
    Q: ArrayLike,
    R: ArrayLike,
    eta: float,
    starts: int = 4,
    seed: int = 0,
) -> tuple[Matrix, float]:
    """Return the best K of several descents, and its multiplier lambda.

    A function of its arguments. Where the LQR keeps the law by itself, it is that, and 0.
    """
    of = system(A, B, D, Q, R)
    K = lqr(of.A, of.B, of.Q, of.R)
    if l2_gain(*of, K) ** 2 <= eta:
        return K, 0.0
    ends = [descend(of, eta, start) for start in beginnings(of, eta, starts, seed)]
    kept = [end for end in ends if end is not None]
    if not kept:
        raise ValueError(f"a descent must keep gain^2 <= {eta:g}, but none of {starts} did")
    best = min(kept, key=lambda end: end.cost)
    return best.K, best.multiplier


def beginnings(of: System, eta: float, starts: int, seed: int) -> list[Matrix]:
    """Return where to descend from: LQR, a central controller, and K drawn around others.

    Raises `ValueError` where no gain^2 is as small as *eta*.
    """
    least = attainable(*of)
    if not eta > least**2:
        raise ValueError(f"eta must be more than {least**2:.6g}, the least gain^2, but is {eta:g}")
    rng, found = np.random.default_rng(seed), [lqr(of.A, of.B, of.Q, of.R)]
    while len(found) < starts:
        share = 1.0 if len(found) == 1 else rng.uniform(0.05, 1)
        g = least + share * (np.sqrt(eta) - least)
        central = hinf_riccati(*of, g) or hinf_riccati(*of, least)
        if central is None:
            raise ValueError(f"a gain of {least:.6g} must be attainable, but is not, to rounding")
        K = central.K
        if len(found) > 1:
            K = K + rng.normal(0, 0.3 * np.abs(K).mean(), K.shape)
        while radius(of.A - of.B @ K) >= 1:
            K = (K + central.K) / 2
        found.append(K)
    return found[:starts]


def descend(of: System, eta: float, K: Matrix) -> Optimum | None:
    """Return where a descent from *K* ends; None if it comes to nothing that keeps the law."""
    end = _polished(of, eta, _roughly(of, eta, K))
    return end if end is not None and end.excess <= KEPT else None


def _roughly(of: System, eta: float, K: Matrix, pulse: int = 30) -> Matrix:
    """Descend by SLSQP, in pulses, on a grid that peaks are added to after each.

    Longer ones learn to hide a pole's peak between two frequencies, and to leave the circle; one
    that does is taken back, and the next is half as long.
    """
    problem = stated(of, eta, plain=True)
    t, w_N = problem.where(K), GRID_N[::2]
    for _ in range(40):

        def room(t: Array, w_N: Array = w_N) -> Array:
            return -problem.excess(t, w_N)[0]

        def slope(t: Array, w_N: Array = w_N) -> Array:
            return -problem.excess(t, w_N)[1]

        laws = [{"type": "ineq", "fun": room, "jac": slope}]
        how: dict[str, Any] = {"maxiter": pulse, "ftol": 1e-11}
        end = minimize(problem.cost, t, jac=True, method="SLSQP", constraints=laws, options=how)
        stable = radius(of.A - of.B @ problem.at(end.x)) < 1
        t, pulse = (end.x, pulse) if stable else (t, max(1, pulse // 2))
        peak_N, excess = problem.peaks(t)
        if stable and excess <= ROUGHLY and end.nit < pulse:
            break
        w_N = np.union1d(w_N, peak_N)
    return problem.at(t)


class _Model(NamedTuple):
    """The problem near a point: the law's slope at frequencies w_N, the Lagrangian's curvature."""

    w_N: Array
    cost: float
    slope: Array
    over_N: Array
    tilt_N: Array
    curve: Matrix

    def solved(self, damping: float, over_N: Array) -> tuple[Array, Array]:
        """Return the step that is best by the model, and the multipliers of frequencies.

        A law that no step can keep is halved until one can. By Lawson and Hanson (1974, 23):
        the least distance to half-spaces is a nonnegative least-squares problem.
        """
        root = np.linalg.cholesky(self.curve + damping * np.eye(len(self.slope)))
        away = np.linalg.solve(root, self.slope)
        side_N = -np.linalg.solve(root, self.tilt_N.T).T
        goal = np.append(np.zeros(len(away)), 1.0)
        for halvings in range(60):
            rows = np.vstack([side_N.T, over_N * 0.5**halvings + side_N @ away])
            y_N, _ = nnls(rows, goal, maxiter=30 * len(over_N))
            rest = goal - rows @ y_N
            if rest[-1] > LITTLE:
                return np.linalg.solve(root.T, -rest[:-1] / rest[-1] - away), y_N / rest[-1]
        return np.linalg.solve(root.T, -away), np.zeros(len(over_N))


def _polished(of: System, eta: float, K: Matrix, rounds: int = 40) -> Optimum | None:
    """Descend by Newton's steps from close by, each as short as its model must have it."""
    problem = stated(of, eta, plain=False)
    t, damping = problem.where(K), 0.0
    try:
        model = _modelled(problem, t, 2 * np.eye(K.size))
        for _ in range(rounds):
            step, damping = _step(problem, t, model, damping)
            if step is None:
                break
            t = t + step
            model = _modelled(problem, t, model.curve)
        _, by_N = model.solved(0.0, model.over_N)
    except LinAlgError:  # its curvature is too flat to be one
        return None
    rest = np.linalg.norm(model.slope + by_N @ model.tilt_N) / np.linalg.norm(model.slope)
    worth = problem.usual / eta * float(by_N.sum())
    excess = float(model.over_N.max())
    return Optimum(problem.at(t), model.cost * problem.usual, worth, float(rest), excess)


def _modelled(problem: Problem, t: Array, curve: Matrix) -> _Model:
    """Return the model at *t*; *curve* is a guess at the curvature, to find multipliers by."""
    around_N = np.add.outer(problem.peaks(t)[0], NEAR_N).ravel()
    w_N = np.union1d(GRID_N, np.clip(around_N, 0, np.pi))
    model = _Model(w_N, *problem.cost(t), *problem.excess(t, w_N), curve)
    for _ in range(2):
        _, by_N = model.solved(0.0, model.over_N)
        model = model._replace(curve=_curvature(problem, t, w_N[by_N > 0], by_N[by_N > 0]))
    return model


def _curvature(problem: Problem, t: Array, w_N: Array, by_N: Array) -> Matrix:
    """Return the second derivative of the Lagrangian, its eigenvalues made positive."""

    def slope(t: Array) -> Array:
        total: Array = problem.cost(t)[1] + by_N @ problem.excess(t, w_N)[1]
        return total

    moved = 1e-6 * np.eye(t.size)
    bent = np.stack([slope(t + move) - slope(t - move) for move in moved]) / 2e-6
    bend, turn = np.linalg.eigh((bent + bent.T) / 2)
    bend = np.maximum(np.abs(bend), 1e-3 * np.abs(bend).max())
    positive: Matrix = (turn * bend) @ turn.T
    return positive


def _step(problem: Problem, t: Array, model: _Model, damping: float) -> tuple[Array | None, float]:
    """Return a step that keeps a tenth of what its model promises, and the next one's damping.

    Judged by cost plus a price for what exceeds the law; none if there is nothing to gain.
    """
    over, usual = max(0.0, model.over_N.max()), np.trace(model.curve) / t.size
    while damping < 1e12 * usual:
        step, by_N = model.solved(damping, model.over_N)
        price = 2 * by_N.sum()
        bent = step @ model.curve @ step + damping * step @ step
        promised = price * over - model.slope @ step - bent / 2
        if over < EXACTLY and promised < LITTLE:
            break
        before = model.cost + price * over
        # The law is bent, too: a second step is told what the first one came to.
        law_N = problem.excess(t + step, model.w_N)[0] - model.tilt_N @ step
        for tried in (step, model.solved(damping, law_N)[0]):
            gained = before - _priced(problem, t + tried, price)
            if gained >= 0.1 * promised:
                return tried, damping / 5 if gained >= 0.5 * promised else damping
        damping = max(4 * damping, 1e-4 * usual)
    return None, damping


def _priced(problem: Problem, t: Array, price: float) -> float:
    cost = problem.cost(t)[0]
    return cost if cost == UNSTABLE else cost + price * max(0.0, problem.peaks(t)[1])
