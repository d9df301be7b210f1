"""Observations and rewards brought to a common scale, by what was seen so far."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EPSILON = 1e-8
"""Added to variances, so that what never varies does not divide by zero."""


class Moments:
    """Mean and variance of all rows seen; 0 and 1 as long as there are none."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean_D = np.zeros(size)
        self.var_D = np.ones(size)

    def update(self, rows_BD: NDArray[Any]) -> None:
        """Merge *rows_BD*: Chan, Golub, LeVeque 1983, equation 2.1."""
        here = len(rows_BD)
        total = self.count + here
        mean_D = np.add.reduce(rows_BD, 0) / here
        var_D = np.add.reduce(np.square(rows_BD - mean_D), 0) / here
        gap_D = mean_D - self.mean_D
        share = here / total
        self.mean_D = self.mean_D + gap_D * share
        self.var_D = (1 - share) * (self.var_D + gap_D * gap_D * share) + share * var_D
        self.count = total

    def state(self) -> dict[str, Tensor]:
        arrays = {"mean": torch.from_numpy(self.mean_D), "var": torch.from_numpy(self.var_D)}
        return {**arrays, "count": torch.tensor(self.count)}

    def load(self, state: dict[str, Tensor]) -> None:
        self.mean_D, self.var_D = state["mean"].numpy().copy(), state["var"].numpy().copy()
        self.count = int(state["count"])


class ObsScale:
    """Observations as deviations from their mean, in units of their spread, up to *clip*."""

    def __init__(self, size: int, clip: float, *, on: bool) -> None:
        self.moments, self.clip, self.on = Moments(size), clip, on
        self.kept = False
        """Whether what is seen from now on changes nothing."""

    def __call__(self, obs: NDArray[Any]) -> NDArray[np.float32]:
        """Return obs_BD of *obs*, flat and in single precision. Learns nothing."""
        obs_BD = obs.reshape(len(obs), -1)
        if self.on:
            obs_BD = (obs_BD - self.moments.mean_D) / np.sqrt(self.moments.var_D + EPSILON)
            obs_BD = np.minimum(np.maximum(obs_BD, -self.clip), self.clip)
        return obs_BD.astype(np.float32)

    def learn(self, obs: NDArray[Any]) -> NDArray[np.float32]:
        """Return the same, with *obs* already counted among what was seen, unless that is kept."""
        if self.on and not self.kept:
            self.moments.update(obs.reshape(len(obs), -1))
        return self(obs)

    def undo(self, obs_BD: NDArray[Any]) -> NDArray[np.float64]:
        """Return observations that are scaled to *obs_BD* as of now."""
        if not self.on:
            return obs_BD.astype(np.float64)
        raw_BD: NDArray[np.float64] = obs_BD * np.sqrt(self.moments.var_D + EPSILON)
        return raw_BD + self.moments.mean_D


class RewardScale:
    """Rewards in units of the spread of the discounted return so far, up to *clip*.

    The mean is left: to shift rewards would change what is worth doing. The rewards before
    this one are summed, backward in time, as is customary since OpenAI Baselines (Engstrom
    et al. 2020, "Implementation Matters", section 3).
    """

    def __init__(
        self, discount: float, clip: float, *, on: bool, memory: int | None = None
    ) -> None:
        self.moments, self.discount, self.clip, self.on = Moments(1), discount, clip, on
        self.memory = memory
        """Rewards, about so many of the latest, that it goes by; else by all."""
        self.sum_E = np.zeros(0)

    @property
    def unit(self) -> float:
        """What a reward is divided by now."""
        return float(np.sqrt(self.moments.var_D[0] + EPSILON)) if self.on else 1.0

    def begin(self, num_envs: int) -> None:
        """Forget the running sums: all environments were reset."""
        self.sum_E = np.zeros(num_envs)

    def learn(self, reward_E: NDArray[Any], done_E: NDArray[np.bool_]) -> NDArray[Any]:
        if not self.on:
            return reward_E
        self.sum_E = self.sum_E * self.discount + reward_E
        self.moments.update(self.sum_E[:, None])
        if self.memory is not None:
            self.moments.count = min(self.moments.count, self.memory)
        self.sum_E[done_E] = 0.0
        scaled_E = reward_E / np.sqrt(self.moments.var_D + EPSILON)
        return np.minimum(np.maximum(scaled_E, -self.clip), self.clip)
