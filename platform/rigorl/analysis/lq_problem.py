"""The least nominal cost of a linear system whose gain is bounded, as a descent sees it.

Shapes: N frequencies, T numbers in K; others as in lq.py.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rigorl.analysis.lq import Matrix, System, closed, lqr, radius, refined, squares, summed

Array = NDArray[np.float64]
UNSTABLE = 1e6
"""What stands for the cost and for the gain of an unstable loop, in shares of what is usual."""
SEEN = 0.8
"""Peaks matter that are as high as this share of the highest, in squares."""


class Problem(NamedTuple):
    """The problem in coordinates t: K = centre + left t right', the cost in shares of *usual*."""

    of: System
    eta: float
    centre: Matrix
    left: Matrix
    right: Matrix
    usual: float

    def at(self, t: Array) -> Matrix:
        K: Matrix = self.centre + self.left @ t.reshape(self.centre.shape) @ self.right.T
        return K

    def where(self, K: Matrix) -> Array:
        t = np.linalg.solve(self.left, np.linalg.solve(self.right, (K - self.centre).T).T)
        return t.ravel()

    def cost(self, t: Array) -> tuple[float, Array]:
        """Return the nominal cost, and its slope."""
        K, of = self.at(t), self.of
        F, D, S = closed(of, K)
        if radius(F) >= 1:
            return UNSTABLE, np.zeros(t.size)
        X, Y = summed(F, S), summed(F.T, D @ D.T)
        slope = 2 * ((of.R + of.B.T @ X @ of.B) @ K - of.B.T @ X @ of.A) @ Y
        value = float(np.trace(D.T @ X @ D)) / self.usual
        return value, (self.left.T @ slope @ self.right).ravel() / self.usual

    def excess(self, t: Array, w_N: Array) -> tuple[Array, Array]:
        """Return by how much the gain's square exceeds eta at each frequency, and the slopes."""
        K, of = self.at(t), self.of
        F, D, S = closed(of, K)
        if radius(F) >= 1:
            return np.full(len(w_N), UNSTABLE), np.zeros((len(w_N), t.size))
        phi_N = np.linalg.inv(np.exp(1j * w_N)[:, None, None] * np.eye(len(F)) - F)
        x_N = phi_N @ D
        square_N, input_N = np.linalg.eigh(x_N.conj().mT @ S @ x_N)
        x_N = x_N @ input_N[:, :, -1:]
        pull_N = of.R @ K @ x_N - of.B.T @ (phi_N.conj().mT @ (S @ x_N))
        slope_N = self.left.T @ (2 * (pull_N.conj() @ x_N.mT).real) @ self.right
        return square_N[:, -1] / self.eta - 1, slope_N.reshape(len(w_N), t.size) / self.eta

    def peaks(self, t: Array) -> tuple[Array, float]:
        """Return the frequencies of the peaks that matter, and the highest excess."""
        loop = closed(self.of, self.at(t))
        poles = np.abs(np.angle(np.linalg.eigvals(loop.F)))
        w_N = np.unique(np.concatenate([np.linspace(0, np.pi, 129), poles]))
        at_N = np.concatenate([[-np.inf], squares(loop, w_N), [-np.inf]])
        top_N = (at_N[1:-1] >= at_N[:-2]) & (at_N[1:-1] >= at_N[2:])
        top_N &= at_N[1:-1] > SEEN * at_N.max()
        found = []
        for i in np.flatnonzero(top_N).tolist():
            near = refined(loop, w_N[max(i - 1, 0)], w_N[min(i + 1, len(w_N) - 1)])
            found.append(max(near, (w_N[i], at_N[i + 1]), key=lambda peak: peak[1]))
        return np.array([w for w, _ in found]), max(s for _, s in found) / self.eta - 1


def stated(of: System, eta: float, *, plain: bool) -> Problem:
    """Return it around the LQR: *plain*, or such that the cost is as curved in all directions.

    The latter stretches what hardly matters, which helps near an optimum and harms far from one.
    """
    K = lqr(of.A, of.B, of.Q, of.R)
    F, D, S = closed(of, K)
    X, Y = summed(F, S), summed(F.T, D @ D.T)
    usual = float(np.trace(D.T @ X @ D))
    if plain:
        left, right = (np.abs(K).max() or 1.0) * np.eye(len(K)), np.eye(len(F))
    else:
        Y = Y + 1e-3 * np.trace(Y) / len(Y) * np.eye(len(Y))
        left = np.sqrt(usual) * np.linalg.inv(np.linalg.cholesky(of.R + of.B.T @ X @ of.B)).T
        right = np.linalg.inv(np.linalg.cholesky(Y)).T
    return Problem(of, eta, K, left, right, usual)
