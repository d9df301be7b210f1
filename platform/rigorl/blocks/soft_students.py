"""The actor and the twin critics of soft actor-critic as students of methods against forgetting.

Each learns by an Adam of its own, so each has a method of its own, with its own memory. The actor
answers with the normal before tanh, and differs from what is remembered by KL(remembered || now);
the critics answer with both values, and differ by half the squared error, as in Wolczyk et al.
2022, "Disentangling Transfer in Continual Reinforcement Learning". Importances are those of
Wolczyk et al. 2021, "Continual World": of the outputs, with the weight that each has in the
likelihood, and of a value with 1.

Shapes: N rows, D observation, A action, I observation and action, X outputs of an actor.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from rigorl.blocks.continual import Chosen, Learned, Rows, begin
from rigorl.blocks.continual.tangent import Tangent, of_relu
from rigorl.blocks.layers import Net, forward, parameters, slopes, squared_slopes, weight_slopes
from rigorl.blocks.soft import LOG_STD_HIGH, LOG_STD_LOW
from rigorl.blocks.soft_slopes import (
    Acting,
    Judging,
    Twins,
    actor_slopes,
    critic_slopes,
    play,
)

CHUNK = 4_096
"""Rows that are asked at a time, so that a memory of a million needs no more room than its rows."""


class ActorStudent:
    def __init__(self, actor: Net, critics: Twins, weights_P: Tensor) -> None:
        self.actor, self.critics, self.weights_P = actor, critics, weights_P
        self.told = weights_P[:0]
        """What the lower critic said of its actions at the last gradient."""
        self._grad_P = torch.empty_like(weights_P)

    def gradient(self, batch: Acting) -> Tensor:
        if batch.version != self.weights_P._version:  # noqa: SLF001  see `play`
            batch = play(self.actor, batch.obs_2BD, batch.noise_2BA, batch.temperature)
        grads, self.told = actor_slopes(self.actor, self.critics, batch)
        return _joined(grads, self._grad_P)

    def recall(self, rows: Rows) -> Tensor:
        obs_ND, was_mean_NA, was_log_std_NA = rows
        through = forward(self.actor, obs_ND)
        mean_NA, log_std_NA, free_NA = _normal(through[-1])
        precision_NA = (-2 * log_std_NA).exp()
        gap_NA = mean_NA - was_mean_NA
        spread_NA = ((2 * was_log_std_NA).exp() + gap_NA.square()) * precision_NA
        head_NX = torch.cat([gap_NA * precision_NA, (1 - spread_NA) * free_NA], 1).div_(len(obs_ND))
        return _joined(weight_slopes(through, slopes(self.actor, through, head_NX)), self._grad_P)

    def answers(self, batch: Acting) -> Rows:
        return self.reply(batch.obs_2BD[: batch.size])

    def reply(self, obs_ND: Tensor) -> Rows:
        """Return the normals that it draws from at *obs_ND*."""
        head_NX = _outputs(self.actor, obs_ND)
        mean_NA, log_std_NA, _ = _normal(head_NX)
        return obs_ND, mean_NA, log_std_NA

    def fisher(self, batch: Acting) -> Tensor:
        """Exact in the actions: 1 / deviation^2 of a mean, and 2 of a logarithm of a deviation."""
        through = forward(self.actor, batch.obs_2BD[: batch.size])
        _, log_std_NA, free_NA = _normal(through[-1])
        # The roots: what is squared here is the slope of each row.
        weight_NX = torch.cat([(-log_std_NA).exp(), 2**0.5 * free_NA], 1)
        fisher_P = torch.zeros_like(self.weights_P)
        for x, weight_N in enumerate(weight_NX.unbind(1)):
            head_NX = torch.zeros_like(weight_NX)
            head_NX[:, x] = weight_N
            squares = squared_slopes(through, slopes(self.actor, through, head_NX))
            fisher_P.add_(_joined(squares, self._grad_P))
        return fisher_P.div_(batch.size)

    def tangents(self, rows: Rows) -> list[Tangent]:
        """Of the outputs as they are before a deviation is held to its bounds."""
        return [of_relu(self.actor, rows[0])]


class CriticsStudent:
    def __init__(self, critics: Twins, weights_P: Tensor) -> None:
        self.critics, self.weights_P = critics, weights_P
        self.told: list[Tensor] = []
        """The errors of both at the last gradient."""
        self._grad_P = torch.empty_like(weights_P)

    def gradient(self, batch: Judging) -> Tensor:
        both = batch.target_B, batch.target_B
        grads, self.told = critic_slopes(self.critics, batch.seen_BI, both)
        return _joined(grads, self._grad_P)

    def recall(self, rows: Rows) -> Tensor:
        seen_NI, one_N, other_N = rows
        grads, _ = critic_slopes(self.critics, seen_NI, (one_N, other_N))
        return _joined(grads, self._grad_P)

    def answers(self, batch: Judging) -> Rows:
        return self.reply(batch.seen_BI)

    def reply(self, seen_NI: Tensor) -> Rows:
        """Return both values of *seen_NI*."""
        return seen_NI, *(_outputs(net, seen_NI).squeeze(1) for net in self.critics)

    def fisher(self, batch: Judging) -> Tensor:
        """That of a normal of deviation 1 around each value."""
        squares: list[Tensor] = []
        for net in self.critics:
            through = forward(net, batch.seen_BI)
            squares += squared_slopes(through, slopes(net, through, torch.ones_like(through[-1])))
        return _joined(squares, self._grad_P).div_(len(batch.seen_BI)).clone()

    def tangents(self, rows: Rows) -> list[Tangent]:
        size = len(self.weights_P) // 2
        return [of_relu(net, rows[0], i * size) for i, net in enumerate(self.critics)]


S = TypeVar("S", ActorStudent, CriticsStudent)


class Taught(Generic[S]):
    """A student, and the method that it keeps, as that is at birth; *nets* have its weights."""

    def __init__(self, student: S, nets: Sequence[Net], chosen: Chosen, seed: int) -> None:
        self.student: S = student
        self.parts = parameters(nets)
        self.method = begin(chosen, student.weights_P, seed)

    def slopes(self, batch: Acting | Judging) -> list[Tensor]:
        """Return what the optimiser is to follow, part by part; a method may change the weights."""
        grad_P = self.method.gradient(self.student, self.method.lesson(batch))
        cut = torch.split(grad_P, [part.numel() for part in self.parts])
        return [grad.view_as(part) for grad, part in zip(cut, self.parts, strict=True)]

    def consolidate(self, batch: Acting | Judging, asked_NI: Tensor, group: int) -> None:
        """Take note of a task: *batch* is data of it, and what it is asked may be remembered."""
        group_N = torch.full((len(asked_NI),), group)
        rows = self.student.reply(asked_NI)
        self.method.consolidate(self.student, Learned(batch, rows, group_N))


def _normal(head_NX: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, log deviation within its bounds, and where it is not at them."""
    mean_NA, wanted_NA = head_NX.chunk(2, -1)
    log_std_NA = wanted_NA.clamp(LOG_STD_LOW, LOG_STD_HIGH)
    return mean_NA, log_std_NA, log_std_NA == wanted_NA


def _outputs(net: Net, in_NI: Tensor) -> Tensor:
    return torch.cat([forward(net, part)[-1] for part in torch.split(in_NI, CHUNK)])


def _joined(parts: Sequence[Tensor], out_P: Tensor) -> Tensor:
    return torch.cat([part.view(-1) for part in parts], out=out_P)
