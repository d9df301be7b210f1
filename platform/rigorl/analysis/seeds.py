"""What becomes on other seeds of a configuration that was best on the seeds it was chosen by.

The model (worked out here; a test holds it to simulation): a configuration is worth mu, drawn
from N(m, tau^2), and a seed shows mu with noise from N(0, sigma^2). The mean over the seeds that
one chooses by is then drawn from N(m, tau^2 + sigma^2 / S), and whoever is largest of N such
means owes a share of its lead to luck, which other seeds do not repeat.
"""

import math
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FAR, POINTS = 10.0, 4_001
"""Where the normal distribution ends for us, and points of it that are summed over."""


class Gap(NamedTuple):
    """Expected means of the winner: over the seeds it was chosen by, and over others."""

    tuned: float
    test: float


class Curse(NamedTuple):
    """What the scores of candidates say of their winner. NaN where they say nothing."""

    tuned: float
    """Its mean over the seeds that it was chosen by."""
    test: float
    """What to expect of it on others."""
    tau: float
    """Standard deviation of what candidates are worth."""
    sigma: float
    """Standard deviation over the seeds of one candidate, pooled."""


def tuned_test_gap(tau: float, sigma: float, n_configs: int, n_seeds: int) -> Gap:
    """Return what the best of *n_configs* is expected to earn on its *n_seeds*, and on others.

    Both are counted from what a configuration is worth on average.
    """
    if min(tau, sigma) < 0 or min(n_configs, n_seeds) < 1:
        raise ValueError(
            "tau and sigma must be at least 0, n_configs and n_seeds at least 1, but are "
            f"{tau}, {sigma}, {n_configs} and {n_seeds}"
        )
    spread = float(np.hypot(tau, sigma / np.sqrt(n_seeds)))
    lead = largest(n_configs)
    return Gap(lead * spread, lead * tau**2 / spread if spread else 0.0)


def winners_curse(scores_CS: Array) -> Curse:
    """Return what to expect of the best row of *scores_CS* (candidate x seed) on other seeds.

    tau and sigma are those of a one-way analysis of variance, and the winner's lead over the mean
    of all is believed to the share of its variance that is not luck: its expectation under the
    model, given these scores. Takes at least two candidates and two seeds; else NaN.
    """
    means_C = scores_CS.mean(axis=1)
    tuned, n_seeds = float(means_C.max()), scores_CS.shape[1]
    if min(scores_CS.shape) < 2:  # noqa: PLR2004
        return Curse(tuned, np.nan, np.nan, np.nan)
    noise = float(scores_CS.var(axis=1, ddof=1).mean())
    seen = float(means_C.var(ddof=1))
    worth = max(0.0, seen - noise / n_seeds)
    believed = worth / seen if seen else 1.0
    mean = float(means_C.mean())
    return Curse(tuned, mean + believed * (tuned - mean), math.sqrt(worth), math.sqrt(noise))


@cache
def largest(n: int) -> float:
    """Return the expectation of the largest of *n* independent standard normal numbers."""
    cdf = NormalDist().cdf
    x_P = np.linspace(-FAR, FAR, POINTS)
    below_P = np.array([cdf(x) for x in x_P]) ** n
    above = np.where(x_P < 0, -below_P, 1 - below_P)
    above[POINTS // 2] = 0.5 - below_P[POINTS // 2]  # the jump at 0, met half-way
    return float(np.trapezoid(above, x_P))
