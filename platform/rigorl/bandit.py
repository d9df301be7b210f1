"""What gains most from here on, by a Gaussian process that forgets: the heart of PB2.

Parker-Holder, Nguyen, Roberts 2020 (arXiv 2002.02518): the gain of settings x at time t has the
covariance k(x, x') (1 - e)^(|t - t'| / 2), k squared exponential, and one tries where mean and
deviation together are largest (UCB). Where several are tried at once, those that were chosen
already narrow the deviation, though nobody knows yet what they gain (GP-BUCB; Desautels, Krause,
Burdick 2014). An exact process in NumPy: there are hundreds of points, and few dimensions.

Shapes: N points that were tried, K that were chosen, M to judge; D settings, each from 0 to 1.
"""

import math
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Array = NDArray[np.float64]
LENGTHS, NOISES = (0.1, 0.2, 0.4, 0.8, 1.6), (0.01, 0.1, 0.5)
FORGETTING = (0.0, 0.05, 0.1, 0.2, 0.5)
"""What a process may be: the likeliest is taken. A grid has no start, and ends anywhere alike."""
LATEST = 256
"""So many points are looked at: older ones were forgotten most."""
REACHES, NEAR = (0.1, 0.03, 0.01), 200
"""How far, and at how many points, one looks for more near the best so far."""


class Tried(NamedTuple):
    """Points, when each was tried, and what it gained."""

    x_ND: Array
    time_N: Array
    gain_N: Array


class Kernel(NamedTuple):
    """How gains go together: over what distance, how much a unit of time takes, and noise."""

    length: float
    forgets: float
    noise: float


def covariance(kernel: Kernel, x_ND: Array, time_N: Array, y_MD: Array, at_M: Array) -> Array:
    """Return cov_NM between the points x at *time_N* and the points y at *at_M*, without noise."""
    gap_NM = np.square(x_ND[:, None] - y_MD[None]).sum(-1)
    time_NM = np.abs(time_N[:, None] - at_M[None])
    near_NM: Array = np.exp(-gap_NM / (2 * kernel.length**2))
    return near_NM * (1 - kernel.forgets) ** (time_NM / 2)


def likeliest(tried: Tried) -> Kernel:
    """Return the kernel under which what was gained is least of a surprise."""
    kernels = [Kernel(*parts) for parts in product(LENGTHS, FORGETTING, NOISES)]
    return max(kernels, key=lambda kernel: _evidence(kernel, tried))


def _evidence(kernel: Kernel, tried: Tried) -> float:
    root_NN = _root(kernel, tried.x_ND, tried.time_N)
    white_N = np.linalg.solve(root_NN, tried.gain_N)
    return float(-0.5 * white_N @ white_N - np.log(np.diag(root_NN)).sum())


def _root(kernel: Kernel, x_ND: Array, time_N: Array) -> Array:
    cov_NN = covariance(kernel, x_ND, time_N, x_ND, time_N)
    root: NDArray[Any] = np.linalg.cholesky(cov_NN + kernel.noise * np.eye(len(x_ND)))
    return root


class Belief(NamedTuple):
    """What was tried, the gains in units of their spread, and how they go together."""

    tried: Tried
    kernel: Kernel

    @property
    def width(self) -> float:
        """Deviations that hope is above the mean, as the authors' code has it."""
        return math.sqrt(max(0.0, 0.2 + math.log(0.4 * len(self.tried.gain_N))))


def learned(tried: Tried) -> Belief:
    """Return what to believe of gains by what was *tried*."""
    latest = Tried(*(part[-LATEST:] for part in tried))
    spread = float(latest.gain_N.std()) or 1.0
    latest = latest._replace(gain_N=(latest.gain_N - latest.gain_N.mean()) / spread)
    with threadpool_limits(1, user_api="blas"):  # sums in one order everywhere
        return Belief(latest, likeliest(latest))


def expected(belief: Belief, chosen_KD: Array, now: float, x_MD: Array) -> tuple[Array, Array]:
    """Return the mean gain of each x, and its deviation while the *chosen* are tried as well."""
    kernel, (x_ND, time_N, gain_N) = belief.kernel, belief.tried
    now_M, now_K = (np.full(len(points), now) for points in (x_MD, chosen_KD))
    root_NN = _root(kernel, x_ND, time_N)
    weight_N = np.linalg.solve(root_NN.T, np.linalg.solve(root_NN, gain_N))
    mean_M = weight_N @ covariance(kernel, x_ND, time_N, x_MD, now_M)
    seen = np.vstack([x_ND, chosen_KD]), np.concatenate([time_N, now_K])
    white = np.linalg.solve(_root(kernel, *seen), covariance(kernel, *seen, x_MD, now_M))
    return mean_M, np.sqrt(np.maximum(0.0, 1 - np.square(white).sum(0)))


def hope(belief: Belief, chosen_KD: Array, now: float, x_MD: Array) -> Array:
    """Return the upper confidence bound of each x."""
    with threadpool_limits(1, user_api="blas"):
        mean_M, deviation_M = expected(belief, chosen_KD, now, x_MD)
    return mean_M + belief.width * deviation_M


def best(belief: Belief, chosen_KD: Array, now: float, pool_MD: Array) -> Array:
    """Return x_D, the most hopeful of *pool*; the first of equals."""
    x_D: Array = pool_MD[np.argmax(hope(belief, chosen_KD, now, pool_MD))]
    return x_D


def climbed(
    belief: Belief, chosen_KD: Array, now: float, x_D: Array, rng: np.random.Generator
) -> Array:
    """Return *x*, or a more hopeful one that was found near to it."""
    for reach in REACHES:
        steps_MD = reach * rng.normal(size=(NEAR, len(x_D)))
        near_MD = np.vstack([x_D, np.clip(x_D + steps_MD, 0, 1)])
        x_D = best(belief, chosen_KD, now, near_MD)
    return x_D
