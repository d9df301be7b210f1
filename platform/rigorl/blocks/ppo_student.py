"""PPO as a method against forgetting sees it, and a learner that follows such a method.

What is remembered is what the networks were asked, observations as they were scaled then, and
what they answered: an actor's distributions, and values. Where the scale goes on changing, old
observations come to be scaled in another way, and no method can know; `PPO.Config` can keep it.

Shapes: P weights, B batch, N rows, D observation.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rigorl.blocks.actor_critic import Losses
from rigorl.blocks.continual import Chosen, Learned, Rows, begin
from rigorl.blocks.rollout import Batch
from rigorl.blocks.shards import Learner

Array = NDArray[Any]


class PPOStudent:
    """Actor and critic as one. The clip of the surrogate is set from outside, and losses read."""

    def __init__(self, learner: Learner) -> None:
        self.net, self.written = learner.net, learner.written
        self.weights_P, self._grad_P = learner.flat
        self.clip, self.losses = 0.2, Losses(0.0, 0.0, 0.0)

    def gradient(self, batch: Batch[Any]) -> Tensor:
        self.losses = self.net.gradient(batch, self.clip)
        return self._grad_P

    def recall(self, rows: Rows) -> Tensor:
        asked, *told = (
            row.numpy() if self.written else row.to(self._grad_P.device) for row in rows
        )
        self.net.recall(asked, told)
        return self._grad_P

    def answers(self, batch: Batch[Any]) -> Rows:
        """Return observations, what the actor would do (mean and log_std, or log_prob), values."""
        obs_BD = batch.obs_BD
        return tuple(torch.as_tensor(column) for column in (obs_BD, *self.net.answers(obs_BD)))

    def fisher(self, batch: Batch[Any]) -> Tensor:
        self.net.fisher(batch.obs_BD)
        return self._grad_P


class Taught:
    """A team of one learner (`shards.Team`), which a method tells what to follow."""

    def __init__(self, learner: Learner, chosen: Chosen, seed: int) -> None:
        self.student = PPOStudent(learner)
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
        rows = tuple(column.cpu() for column in self.student.answers(held))
        group_N = torch.full((len(lived.return_B),), stage)
        self.method.consolidate(self.student, Learned(held, rows, group_N))

    def state(self) -> Mapping[str, Tensor]:
        return self.method.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.method.load(state)
