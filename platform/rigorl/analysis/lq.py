"""Linear systems with quadratic cost: what can be known exactly.

x+ = A x + B u + D w, with a cost of x'Qx + u'Ru = |z|^2 a step, x before the step; u = -K x.
Discrete time, undiscounted: of a cost that is discounted by gamma, give A, B and D times
sqrt(gamma). Q >= 0, R > 0, (A, B) can be stabilised, and Q sees what of A is unstable.

Sources: the Riccati equation of the game, Basar and Bernhard, H-infinity Optimal Control (1995);
the gain, Bruinsma and Steinbuch (1990), for discrete time.

Shapes: matrices are n x n, n x inputs (B), n x disturbances (D); a number is a matrix of one.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import block_diag, eig, solve_discrete_are  # type: ignore[import-untyped]
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

Matrix = NDArray[np.float64]


SAME = 1e-10
"""Squares of gains that differ by less, relatively, are one."""
CIRCLE = 1e-5
"""How far from the unit circle an eigenvalue may be found that lies on it."""
SOLVED = 1e-11
"""What an equation may miss, as a share of its solution."""
MOVED = 0.05
"""How well all directions of a random system's state can be moved by its inputs, at least."""
NOTHING = 1e-30
"""A power of a matrix, or a gain, that adds nothing any more."""


class System(NamedTuple):
    """A linear system, and what it costs: `l2_gain(*system, K)`."""

    A: Matrix
    B: Matrix
    D: Matrix
    Q: Matrix
    R: Matrix


class Solution(NamedTuple):
    """A solution of the game: x'Px is its value, u = -K x, and the worst disturbance w = W x."""

    P: Matrix
    K: Matrix
    W: Matrix


def system(A: ArrayLike, B: ArrayLike, D: ArrayLike, Q: ArrayLike, R: ArrayLike) -> System:
    """Return all of them as matrices of floats; raise `ValueError` if they do not fit together."""
    of = System(*map(_matrix, (A, B, D, Q, R)))
    n, n_u = of.B.shape
    if [m.shape for m in of] != [(n, n), (n, n_u), (n, of.D.shape[1]), (n, n), (n_u, n_u)]:
        raise ValueError(f"A, B, D, Q and R must fit together, but are {[m.shape for m in of]}")
    if not all(np.isfinite(m).all() for m in of):
        raise ValueError("A, B, D, Q and R must be finite, but are not")
    if not (np.allclose(of.Q, of.Q.T) and np.allclose(of.R, of.R.T)):
        raise ValueError("Q and R must be symmetric, but are not")
    return of


def random_system(rng: np.random.Generator, states: int, inputs: int, disturbances: int) -> System:
    """Draw a system whose A has a spectral radius of 0.8 to 1.15, and that can be controlled.

    Entries of B and D are normal, Q and R have eigenvalues of 0.5 to 2. Drawn again where a
    direction of the state can hardly be moved (the smallest singular value of the
    controllability matrix, A scaled to radius 1, is below `MOVED`).
    """
    while True:
        A = rng.normal(size=(states, states))
        A /= radius(A)
        B = rng.normal(size=(states, inputs))
        reach = np.hstack([np.linalg.matrix_power(A, i) @ B for i in range(states)])
        if np.linalg.svd(reach, compute_uv=False)[-1] >= MOVED:
            break
    A *= rng.uniform(0.8, 1.15)
    D = rng.normal(size=(states, disturbances)) / np.sqrt(states)
    return System(A, B, D, _positive(rng, states), _positive(rng, inputs))


def lqr(A: ArrayLike, B: ArrayLike, Q: ArrayLike, R: ArrayLike) -> Matrix:
    """Return K of the least nominal cost, whatever white noise drives the system."""
    A, B, Q, R = map(_matrix, (A, B, Q, R))
    P = solve_discrete_are(A, B, Q, R)
    K: Matrix = np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)
    return K


def h2_cost(
    A: ArrayLike, B: ArrayLike, D: ArrayLike, Q: ArrayLike, R: ArrayLike, K: ArrayLike
) -> float:
    """Return the nominal cost a step, under unit white noise w; inf if the loop is unstable."""
    loop = closed(system(A, B, D, Q, R), K)
    if radius(loop.F) >= 1:
        return np.inf
    return float(np.trace(loop.D.T @ summed(loop.F, loop.S) @ loop.D))


def l2_gain(
    A: ArrayLike, B: ArrayLike, D: ArrayLike, Q: ArrayLike, R: ArrayLike, K: ArrayLike
) -> float:
    """Return the L2 gain from w to z, the peak over frequencies; inf if the loop is unstable.

    Each round asks a pencil for the frequencies at which the largest gain so far is one of the
    loop's singular values, and looks between them; then the peak is refined. No grid: what is
    returned is a value of the loop, and no other peak is higher by 1e-9 of it.
    """
    loop = closed(system(A, B, D, Q, R), K)
    poles = np.linalg.eigvals(loop.F)
    if np.abs(poles).max() >= 1:
        return np.inf
    w_N = np.unique(np.concatenate([np.abs(np.angle(poles)), np.linspace(0, np.pi, 9)]))
    best = 0.0
    while (found := _highest(loop, w_N)) > best * (1 + SAME) and found > 0:
        best = found
        on_N = np.concatenate([[0.0], _crossings(loop, best * (1 + SAME)), [np.pi]])
        w_N = np.unique(np.concatenate([on_N, (on_N[1:] + on_N[:-1]) / 2]))
    return float(np.sqrt(best))


class Loop(NamedTuple):
    """A closed loop: x+ = F x + D w, with a cost of x'Sx a step."""

    F: Matrix
    D: Matrix
    S: Matrix


def closed(of: System, K: ArrayLike) -> Loop:
    """Return the loop that u = -K x closes."""
    K = _matrix(K)
    S = of.Q + K.T @ of.R @ K
    return Loop(of.A - of.B @ K, of.D, (S + S.T) / 2)


def radius(F: Matrix) -> float:
    """Return the largest modulus of an eigenvalue."""
    return float(np.abs(np.linalg.eigvals(F)).max())


def summed(F: Matrix, S: Matrix) -> Matrix:
    """Return the sum of F'^k S F^k over all k >= 0, twice as many terms a turn; F is stable.

    It solves X = S + F'XF, and stays positive however close to the circle F comes.
    """
    while np.abs(F).max() > NOTHING:
        S = S + F.T @ S @ F
        F = F @ F
    return (S + S.T) / 2


def squares(loop: Loop, w_N: ArrayLike) -> NDArray[np.float64]:
    """Return the square of the loop's largest singular value at frequencies *w_N* (rad a step)."""
    z_N = np.exp(1j * np.asarray(w_N, dtype=np.float64))[:, None, None]
    x_N = np.linalg.solve(z_N * np.eye(len(loop.F)) - loop.F, loop.D[None])
    top: Any = np.linalg.eigvalsh(x_N.conj().mT @ loop.S @ x_N)[:, -1]
    positive: NDArray[np.float64] = np.maximum(top, 0.0)
    return positive


def refined(loop: Loop, low: float, high: float) -> tuple[float, float]:
    """Return the frequency of a peak between two others, and the square there."""
    peak = minimize_scalar(
        lambda w: -squares(loop, [w])[0],
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-10 * max(high - low, 1e-3)},
    )
    return float(peak.x), float(-peak.fun)


def _highest(loop: Loop, w_N: NDArray[np.float64]) -> float:
    """Return the highest square that is found at frequencies *w_N*, and near the best of them."""
    at_N = squares(loop, w_N)
    i = int(at_N.argmax())
    near = refined(loop, w_N[max(i - 1, 0)], w_N[min(i + 1, len(w_N) - 1)])[1]
    return max(float(at_N[i]), near)


def _crossings(loop: Loop, square: float) -> NDArray[np.float64]:
    """Return the frequencies, sorted, at which *square* is that of one of its singular values.

    Those of the pencil's eigenvalues that lie on the circle. Where they nearly meet, they are known
    to half the digits only, so some may be returned that are none: that costs a look.
    """
    F, D, S = loop
    noise, n = D @ D.T / square, len(F)
    scale = np.sqrt(max(np.abs(S).max(), 1e-300) / max(np.abs(noise).max(), 1e-300))
    zero, one = np.zeros((n, n)), np.eye(n)
    ahead = np.block([[F, noise * scale], [zero, one]])
    behind = np.block([[one, zero], [S / scale, F.T]])
    z_N = eig(ahead, behind, right=False)
    on_N = z_N[np.isfinite(z_N)]
    on_N = on_N[np.abs(np.abs(on_N) - 1) < CIRCLE]
    w_N: NDArray[np.float64] = np.unique(np.abs(np.angle(on_N)))
    return w_N


def hinf_riccati(
    A: ArrayLike, B: ArrayLike, D: ArrayLike, Q: ArrayLike, R: ArrayLike, g: float
) -> Solution | None:
    """Return the central controller whose gain is less than *g*; None where *g* is not attainable.

    P is what the game's value iteration from P = Q comes to. It must leave g^2 I - D'PD positive
    and the loop stable, with the worst disturbance and without.
    """
    of = system(A, B, D, Q, R)
    if not g > 0:
        raise ValueError(f"g must be above 0, but is {g}")
    unit = np.abs(of.R).max()
    of = of._replace(Q=of.Q / unit, R=of.R / unit, D=of.D * np.sqrt(unit) / g)  # now g is 1
    n_u, n_w = of.B.shape[1], of.D.shape[1]
    both, weight = np.hstack([of.B, of.D]), block_diag(of.R, -np.eye(n_w))
    try:
        P = solve_discrete_are(of.A, both, of.Q, weight)
        for _ in range(3):
            gains = np.linalg.solve(weight + both.T @ P @ both, both.T @ P @ of.A)
            ahead = of.A - both @ gains
            missed = of.Q + of.A.T @ P @ ahead - P
            if radius(ahead) >= 1:
                return None
            P = P + summed(ahead, (missed + missed.T) / 2)  # Newton's step
    except ValueError:  # as LinAlgError is, and what SciPy says where it cannot sort eigenvalues
        return None
    # Where there is no solution, the solver splits eigenvalues on the circle, and returns anything.
    solved = np.abs(missed).max() <= SOLVED * np.abs(P).max()
    room = np.linalg.eigvalsh(np.eye(n_w) - of.D.T @ P @ of.D)[0]
    positive = np.linalg.eigvalsh(P)[0] >= -SOLVED * np.abs(P).max()
    if not (solved and positive and room > 0 and radius(of.A - of.B @ gains[:n_u]) < 1):
        return None
    return Solution(P * unit, gains[:n_u], -gains[n_u:] * np.sqrt(unit) / g)


def attainable(A: ArrayLike, B: ArrayLike, D: ArrayLike, Q: ArrayLike, R: ArrayLike) -> float:
    """Return gamma*, the smallest gain that can be attained, from above: there it still can."""
    of = system(A, B, D, Q, R)
    low, high = 0.0, l2_gain(*of, lqr(of.A, of.B, of.Q, of.R)) * (1 + 1e-6)
    while high - low > 1e-10 * high and high > NOTHING:
        middle = (low + high) / 2
        if hinf_riccati(*of, middle) is None:
            low = middle
        else:
            high = middle
    return high


def worst_ratio(
    A: ArrayLike,
    B: ArrayLike,
    D: ArrayLike,
    Q: ArrayLike,
    R: ArrayLike,
    K: ArrayLike,
    kappa: ArrayLike,
    sigma: float = 1.0,
    noise: float = 0.0,
) -> float:
    """Return the stationary ratio of cost to squared force, of a disturber w = kappa x + noise.

    *sigma* is the deviation of its white noise, part of the force; *noise* that of the world's own,
    which no one pays for. Without the latter *sigma* does not matter, and no ratio exceeds the
    squared gain. nan where it makes the loop unstable: then nothing is stationary. Over episodes
    that begin at x0, the cost of x0 comes on top.
    """
    loop, kappa = closed(system(A, B, D, Q, R), K), _matrix(kappa)
    F = loop.F + loop.D @ kappa
    if radius(F) >= 1:
        return np.nan
    spread = summed(F.T, (sigma**2 + noise**2) * loop.D @ loop.D.T)
    force = np.trace(kappa @ spread @ kappa.T) + sigma**2 * loop.D.shape[1]
    return float(np.trace(loop.S @ spread) / force)


def _matrix(values: ArrayLike) -> Matrix:
    return np.atleast_2d(np.asarray(values, dtype=np.float64))


def _positive(rng: np.random.Generator, n: int) -> Matrix:
    """Return a symmetric matrix with eigenvalues of 0.5 to 2."""
    turn, _ = np.linalg.qr(rng.normal(size=(n, n)))
    positive: Matrix = (turn * rng.uniform(0.5, 2, n)) @ turn.T
    return positive
