"""An actor, a disturber, and a critic with two heads: what both players' PPO computes.

The gradients are written out, as in `written.py`, for the same reason. The disturber is an actor
too: what it chooses is a *push*, which `forces.squash` makes a force.

Shapes: B batch, D observation, A action, F numbers of a push, 2 heads:
of reward, and of cost.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from torch import Tensor, nn

from rigorl.blocks.actor_critic import divergence
from rigorl.blocks.actors import GaussianActor, head, make_actor
from rigorl.blocks.adam import Adam, flatten
from rigorl.blocks.dense import Dense
from rigorl.blocks.nets import mlp
from rigorl.blocks.written import Normal, Softmax

Array = NDArray[Any]


class Turns(NamedTuple):
    """What both players did, and how well, in any order of rows."""

    obs_BD: Array
    action: Array
    log_prob_B: Array
    advantage_B: Array
    push_BF: Array
    push_log_prob_B: Array
    push_advantage_B: Array
    return_B2: Array
    weight_B2: Array
    """How much each head is to learn of a row."""

    def rows(self, these: Any) -> "Turns":
        return Turns(*(array[these] for array in self))


class Lost(NamedTuple):
    """Losses of both players and of both heads, and the mean entropies of the players."""

    actor: float
    disturber: float
    reward_value: float
    cost_value: float
    entropy: float
    push_entropy: float


class Lesson(NamedTuple):
    """How a rollout is learned from; without `push_lr` the disturber learns nothing."""

    minibatch: int
    epochs: int
    clip: float
    lr: float
    push_lr: float | None
    max_grad_norm: float
    entropy_coef: float
    push_entropy_coef: float


class Sizes(NamedTuple):
    """Of the networks, and the deviations that the players begin with (their logarithms)."""

    obs: int
    forces: int
    actor: Sequence[int]
    disturber: Sequence[int]
    critic: Sequence[int]
    log_std: float
    push_log_std: float


class Players:
    """The two, their critic, and what moves them."""

    def __init__(
        self,
        space: Box | Discrete[Any],
        sizes: Sizes,
        adam_eps: float,
        born: torch.Generator,
        *,
        odd: bool = False,
    ) -> None:
        self.sizes = sizes
        n_obs, forces, *_, log_std, push_log_std = sizes
        self.actor = make_actor(space, n_obs, sizes.actor, born, log_std)
        critic = mlp([n_obs, *sizes.critic, 2], 1.0, born)
        pushes = Box(-np.inf, np.inf, (forces,))
        self.disturber = GaussianActor(pushes, n_obs, sizes.disturber, born, push_log_std)
        self.flat = flatten([*self.actor.parameters(), *critic.parameters()])
        self.push_flat = flatten(self.disturber.parameters())
        self.adam, self.push_adam = (
            Adam([flat.weights], adam_eps) for flat in (self.flat, self.push_flat)
        )
        self.acts: Normal | Softmax
        if isinstance(self.actor, GaussianActor):
            self.acts = Normal(self.actor)
        else:
            self.acts = Softmax(self.actor.logits)
        self.pushes, self.critic = Normal(self.disturber), Dense(critic)
        self.updates = 0
        biases = [layer.bias.grad for layer in head(self.actor) if isinstance(layer, nn.Linear)]
        self._still = [grad for grad in biases if grad is not None] if odd else []
        """Gradients of what is 0 and stays so: an odd actor's biases."""
        self._set: list[Tensor] = []
        """And of deviations that are set."""

    def values(self, obs_BD: Array) -> Array:
        """Return value_B2."""
        value_B2: Array = self.critic(obs_BD).copy()
        return value_B2

    def renew(self, born: torch.Generator) -> None:
        """Have another disturber begin, who has learned nothing."""
        sizes, space = self.sizes, self.disturber.space
        args = space, sizes.obs, sizes.disturber, born, sizes.push_log_std
        self.disturber.load_state_dict(GaussianActor(*args).state_dict())
        self.push_adam.forget()

    def explore(self, log_std: float | None, push_log_std: float | None) -> None:
        """Set the logarithm of the deviation of a player, if it is given."""
        self._set = []
        for player, wanted in ((self.actor, log_std), (self.disturber, push_log_std)):
            if wanted is not None and isinstance(player, GaussianActor):
                player.log_std_A.data.fill_(wanted)
                self._set.append(cast("Tensor", player.log_std_A.grad))

    def learn(
        self, turns: Turns, lesson: Lesson, order: torch.Generator
    ) -> Iterator[tuple[Lost, bool]]:
        """Yield, after each minibatch, its losses, and whether it was the last."""
        size, norm = len(turns.obs_BD), lesson.max_grad_norm
        starts = range(0, size, lesson.minibatch)
        for epoch in range(1, lesson.epochs + 1):
            ordered = turns.rows(torch.randperm(size, generator=order).numpy())
            for start in starts:
                lost = self.gradient(ordered.rows(slice(start, start + lesson.minibatch)), lesson)
                self.adam.step([self.flat.grad], lesson.lr, norm)
                if lesson.push_lr is not None:
                    self.push_adam.step([self.push_flat.grad], lesson.push_lr, norm)
                self.updates += 1
                yield lost, epoch == lesson.epochs and start == starts[-1]

    def gradient(self, turns: Turns, lesson: Lesson) -> Lost:
        """Return the losses, and leave their gradients where `flatten` put them."""
        obs_BD, clip = turns.obs_BD, lesson.clip
        told = turns.action, turns.log_prob_B, turns.advantage_B
        actor, entropy = follow(self.acts, obs_BD, *told, clip, lesson.entropy_coef)
        told = turns.push_BF, turns.push_log_prob_B, turns.push_advantage_B
        disturber, push_entropy = follow(self.pushes, obs_BD, *told, clip, lesson.push_entropy_coef)
        for grad in (*self._still, *self._set):
            grad.zero_()
        error_B2 = np.subtract(self.critic(obs_BD), turns.return_B2)
        slope_B2 = error_B2 * turns.weight_B2
        reward, cost = np.add.reduce(slope_B2 * error_B2, 0) / len(obs_BD)
        slope_B2 *= 2 / len(obs_BD)
        self.critic.backward(obs_BD, slope_B2)
        return Lost(actor, disturber, float(reward), float(cost), entropy, push_entropy)

    def assess(self, turns: Turns) -> dict[str, float]:
        """Return how far both have gone in learning from *turns*."""
        acted_B = self.acts.judge(turns.obs_BD, turns.action)[0]
        pushed_B = self.pushes.judge(turns.obs_BD, turns.push_BF)[0]
        return {
            "approx_kl": divergence(acted_B - turns.log_prob_B),
            "push_approx_kl": divergence(pushed_B - turns.push_log_prob_B),
        }

    def state(self) -> dict[str, dict[str, Tensor]]:
        nets = {"actor_critic": self.flat.weights, "disturber": self.push_flat.weights}
        return {"nets": nets, "adam": self.adam.state(), "push_adam": self.push_adam.state()}

    def load(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.flat.weights.copy_(state["nets"]["actor_critic"])
        self.push_flat.weights.copy_(state["nets"]["disturber"])
        self.adam.load(state["adam"])
        self.push_adam.load(state["push_adam"])


def follow(
    player: Normal | Softmax,
    obs_BD: Array,
    action: Array,
    log_prob_B: Array,
    advantage_B: Array,
    clip: float,
    entropy_coef: float,
) -> tuple[float, float]:
    """Return the loss of PPO's clipped surrogate and the mean entropy; set the gradient of
    loss - entropy_coef * entropy (Schulman et al. 2017, equation 7).
    """
    size = len(log_prob_B)
    now_B, entropy = player.judge(obs_BD, action)
    ratio_B = np.exp(now_B - log_prob_B)
    clipped_B = np.minimum(np.maximum(ratio_B, 1 - clip), 1 + clip) * advantage_B
    gain_B = ratio_B * advantage_B
    player.backward(obs_BD, np.multiply(gain_B, gain_B <= clipped_B) * (-1 / size), entropy_coef)
    return -float(np.add.reduce(np.minimum(gain_B, clipped_B))) / size, entropy
