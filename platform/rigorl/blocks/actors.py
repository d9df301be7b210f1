"""Stochastic actors: what to do, how likely it was, and how undecided they are.

Noise is drawn beforehand, for a whole rollout at once, and an action is a function of the
observation and its noise.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from torch import Tensor, nn

from rigorl.blocks.nets import mlp

ACTOR_GAIN = 0.01
"""Small first outputs: a newborn actor is undecided whatever it sees."""
HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


class GaussianActor(nn.Module):
    """Normal with a mean that depends on the observation and a deviation that does not.

    Its actions are flat and unbounded; `for_env` gives them the shape, bounds and type of
    *space*.
    """

    def __init__(
        self,
        space: Box,
        n_obs: int,
        hidden: Sequence[int],
        generator: torch.Generator,
        log_std: float = 0.0,
    ) -> None:
        super().__init__()
        self.space, self.hidden = space, tuple(hidden)
        self.low, self.high, self.dtype = space.low, space.high, space.dtype
        n_actions = math.prod(space.shape)
        self.mean = mlp([n_obs, *hidden, n_actions], ACTOR_GAIN, generator)
        self.log_std_A = nn.Parameter(torch.full((n_actions,), log_std))

    def blank(self, *shape: int) -> NDArray[Any]:
        """Return room for so many actions."""
        return np.zeros((*shape, len(self.log_std_A)), np.float32)

    def noise(self, *shape: int, generator: torch.Generator) -> Tensor:
        return torch.randn(*shape, len(self.log_std_A), generator=generator)

    def act(self, obs_BD: Tensor, noise_BA: Tensor) -> Tensor:
        mean_BA: Tensor = self.mean(obs_BD)
        return mean_BA + noise_BA * self.log_std_A.exp()

    def mode(self, obs_BD: Tensor) -> Tensor:
        mean_BA: Tensor = self.mean(obs_BD)
        return mean_BA

    def judge(self, obs_BD: Tensor, action_BA: Tensor) -> tuple[Tensor, Tensor]:
        """Return log_prob_B of the actions, and the mean entropy."""
        z_BA = (action_BA - self.mean(obs_BD)) * torch.exp(-self.log_std_A)
        spread = self.log_std_A.sum() + HALF_LOG_TAU * len(self.log_std_A)
        return -0.5 * z_BA.square().sum(-1) - spread, spread + 0.5 * len(self.log_std_A)

    def describe(self, obs_BD: Tensor) -> tuple[Tensor, ...]:
        """Return all that there is to know of what it would do: mean_BA and log_std_BA."""
        mean_BA: Tensor = self.mean(obs_BD)
        return mean_BA, self.log_std_A.expand_as(mean_BA)

    def divergence(self, told: Sequence[Tensor], obs_BD: Tensor) -> Tensor:
        """Return KL_B, how far what it would do is from *told*, which `describe` returned."""
        mean_BA, log_std_BA = told
        gap_BA = mean_BA - self.mean(obs_BD)
        square_BA = (2 * log_std_BA).exp() + gap_BA.square()
        kl_BA = self.log_std_A - log_std_BA + 0.5 * square_BA * torch.exp(-2 * self.log_std_A)
        kl_B: Tensor = (kl_BA - 0.5).sum(-1)
        return kl_B

    def root(self, mean_A: Tensor) -> Tensor:
        """Return what has the same squared gradient as log_prob, expected over its actions.

        By the weights of `mean`; the squares of its parts are to be added.
        """
        return mean_A * torch.exp(-self.log_std_A.detach())

    def for_env(self, action_BA: NDArray[Any]) -> NDArray[Any]:
        action = action_BA.reshape(-1, *self.low.shape)
        # `clip` does the same, and takes three times as long.
        bounded: NDArray[Any] = np.minimum(np.maximum(action, self.low), self.high)
        return bounded.astype(self.dtype, copy=False)


class CategoricalActor(nn.Module):
    """One of the actions of *space*, counted from 0; `for_env` counts them as *space* does."""

    def __init__(
        self,
        space: Discrete[Any],
        n_obs: int,
        hidden: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.space, self.hidden = space, tuple(hidden)
        self.n_actions, self.start, self.dtype = int(space.n), int(space.start), space.dtype
        self.logits = mlp([n_obs, *hidden, self.n_actions], ACTOR_GAIN, generator)

    def blank(self, *shape: int) -> NDArray[Any]:
        """Return room for so many actions."""
        return np.zeros(shape, np.int64)

    def noise(self, *shape: int, generator: torch.Generator) -> Tensor:
        """Return Gumbel noise: the largest noisy logit is a draw from their softmax."""
        return -torch.empty(*shape, self.n_actions).exponential_(generator=generator).log_()

    def act(self, obs_BD: Tensor, noise_BA: Tensor) -> Tensor:
        logits_BA: Tensor = self.logits(obs_BD)
        return (logits_BA + noise_BA).argmax(-1)

    def mode(self, obs_BD: Tensor) -> Tensor:
        logits_BA: Tensor = self.logits(obs_BD)
        return logits_BA.argmax(-1)

    def judge(self, obs_BD: Tensor, action_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return log_prob_B of the actions, and the mean entropy."""
        log_prob_BA = torch.log_softmax(self.logits(obs_BD), -1)
        entropy = -(log_prob_BA.exp() * log_prob_BA).sum(-1).mean()
        return log_prob_BA.gather(-1, action_B[:, None]).squeeze(-1), entropy

    def describe(self, obs_BD: Tensor) -> tuple[Tensor, ...]:
        """Return all that there is to know of what it would do: log_prob_BA."""
        return (torch.log_softmax(self.logits(obs_BD), -1),)

    def divergence(self, told: Sequence[Tensor], obs_BD: Tensor) -> Tensor:
        """Return KL_B, how far what it would do is from *told*, which `describe` returned."""
        (log_prob_BA,) = told
        gap_BA = log_prob_BA - torch.log_softmax(self.logits(obs_BD), -1)
        return (log_prob_BA.exp() * gap_BA).sum(-1)

    def root(self, logits_A: Tensor) -> Tensor:
        """Return what has the same squared gradient as log_prob, expected over its actions.

        The squares of its parts are to be added.
        """
        log_prob_A = torch.log_softmax(logits_A, -1)
        return (0.5 * log_prob_A.detach()).exp() * log_prob_A

    def for_env(self, action_B: NDArray[Any]) -> NDArray[Any]:
        return (action_B + self.start).astype(self.dtype, copy=False)


Actor = GaussianActor | CategoricalActor


def head(actor: Actor) -> nn.Sequential:
    """Return the network behind an actor's choices."""
    return actor.mean if isinstance(actor, GaussianActor) else actor.logits


def make_actor(
    space: Box | Discrete[Any],
    n_obs: int,
    hidden: Sequence[int],
    generator: torch.Generator,
    log_std: float = 0.0,
) -> Actor:
    """Return a newborn actor that acts in *space*; only in a Box does *log_std* matter."""
    if isinstance(space, Box):
        return GaussianActor(space, n_obs, hidden, generator, log_std)
    return CategoricalActor(space, n_obs, hidden, generator)
