"""PPO as a method against forgetting sees it, and a learner that follows such a method.

What is remembered is what was seen, and what the networks answered: an actor's distributions,
and values. It is remembered as the environments show it, for it is they who will show it again:
where the scale of observations has changed since, the networks are asked with that of now, and
learn to answer as before all the same. Methods that hold weights, or answers of earlier weights,
cannot know of the scale; so `PPO.Config` can keep it.

Shapes: P weights, B batch, N rows, D observation.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rigorl.blocks.actor_critic import Losses
from rigorl.blocks.actors import head
from rigorl.blocks.continual import Chosen, Learned, Rows, begin
from rigorl.blocks.continual.tangent import Tangent, traced
from rigorl.blocks.normalize import ObsScale
from rigorl.blocks.rollout import Batch
from rigorl.blocks.shards import Learner

Array = NDArray[Any]


class PPOStudent:
    """Actor and critic as one. The clip of the surrogate is set from outside, and losses read."""

    def __init__(self, learner: Learner, scale: ObsScale) -> None:
        self.scale, self.net, self.written = scale, learner.net, learner.written
        self.weights_P, self._grad_P = learner.flat
        self.heads = head(learner.actor), learner.critic
        self.clip, self.losses = 0.2, Losses(0.0, 0.0, 0.0)

    def gradient(self, batch: Batch[Any]) -> Tensor:
        self.losses = self.net.gradient(batch, self.clip)
        return self._grad_P

    def recall(self, rows: Rows) -> Tensor:
        seen_ND, *told = rows
        scaled_ND = torch.from_numpy(self.scale(seen_ND.numpy()))
        self.net.recall(self._there(scaled_ND), [*map(self._there, told)])
        return self._grad_P

    def _there(self, rows: Tensor) -> Any:
        """Return *rows* where the networks can be asked: see `ActorCritic.hold`."""
        return rows.numpy() if self.written else rows.to(self._grad_P.device)

    def answers(self, batch: Batch[Any]) -> Rows:
        """Return observations, what the actor would do (mean and log_std, or log_prob), values.

        All on the CPU.
        """
        told = (torch.as_tensor(column).cpu() for column in self.net.answers(batch.obs_BD))
        scaled_BD = torch.as_tensor(batch.obs_BD).cpu().numpy()
        return torch.from_numpy(self.scale.undo(scaled_BD)), *told

    def fisher(self, batch: Batch[Any]) -> Tensor:
        self.net.fisher(batch.obs_BD)
        return self._grad_P

    @torch.no_grad()
    def tangents(self, rows: Rows) -> list[Tangent]:
        """Of the actor's means or logits, and of the critic's value; by torch, wherever it is."""
        scaled_ND = torch.from_numpy(self.scale(rows[0].numpy())).to(self.weights_P.device)
        return [_tangent(net, scaled_ND) for net in self.heads]


def _tangent(net: nn.Sequential, x_ND: Tensor) -> Tangent:
    """Return that of a tanh network whose parameters `flatten` has taken over."""
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    inputs = [x_ND]
    for layer in linear[:-1]:
        inputs.append(layer(inputs[-1]).tanh())
    slopes = [1 - hidden_NH.square() for hidden_NH in inputs[1:]]
    weights = [layer.weight for layer in linear]
    return traced(weights, inputs, slopes, begin=int(weights[0].storage_offset()))


class Taught:
    """A team of one learner (`shards.Team`), which a method tells what to follow."""

    def __init__(self, learner: Learner, scale: ObsScale, chosen: Chosen, seed: int) -> None:
        self.student = PPOStudent(learner, scale)
        self.method = begin(chosen, learner.flat.weights, seed)
        self._grad_P = learner.flat.grad

    def tell(self, order_B: Tensor) -> Tensor:
        return order_B

    def gradient(self, batch: Batch[Any], clip: float) -> Losses:
        """Return the losses on what is new, and leave in `Flat.grad` what is to be followed."""
        self.student.clip = clip
        grad_P = self.method.gradient(self.student, self.method.lesson(batch))
        self._grad_P.copy_(grad_P)
        return self.student.losses

    def end_task(self, rollouts: Sequence[Batch[Array]], stage: int) -> None:
        """Take note that the task of *stage* was learned, the last of it from *rollouts*."""
        lived: Batch[Array] = Batch(*map(np.concatenate, zip(*rollouts, strict=True)))
        held = self.student.net.hold(lived)
        group_N = torch.full((len(lived.return_B),), stage)
        self.method.consolidate(self.student, Learned(held, self.student.answers(held), group_N))

    def state(self) -> Mapping[str, Tensor]:
        return self.method.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.method.load(state)
