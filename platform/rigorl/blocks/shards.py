"""A learner that computes the gradient of a minibatch in shards, one a rank.

Shards are the rows of a minibatch, cut in the order they have. Their gradients are weighed by
their rows and added in the order of ranks, so the sum is the same, to the bit, whether ranks are
processes (`parallel.py`) or turns that this one takes.

Shapes: R ranks, P weights and three losses, B batch.
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from rigorl.blocks.actor_critic import ActorCritic, Autograd, Losses, Terms
from rigorl.blocks.actors import Actor
from rigorl.blocks.adam import Adam, Flat, flatten
from rigorl.blocks.rollout import Batch
from rigorl.blocks.written import Written


class Learner(NamedTuple):
    """An actor and a critic, who computes them, and what moves them."""

    actor: Actor
    critic: nn.Sequential
    terms: Terms
    written: bool
    flat: Flat
    adam: Adam
    net: ActorCritic

    def state(self) -> list[Tensor]:
        """Return all that learning changes."""
        return [self.flat.weights, *self.adam.state().values()]


class Lesson(NamedTuple):
    """How a rollout is learned from."""

    minibatch: int
    lr: float
    clip: float
    max_grad_norm: float


def assemble(
    actor: Actor, critic: nn.Sequential, terms: Terms, adam_eps: float, *, written: bool
) -> Learner:
    """Return a learner of the two networks, whose weights it takes over where they are."""
    flat = flatten([*actor.parameters(), *critic.parameters()])
    adam = Adam([flat.weights], adam_eps)
    net = _net(actor, critic, flat, terms, written=written)
    return Learner(actor, critic, terms, written, flat, adam, net)


def _net(
    actor: Actor, critic: nn.Sequential, flat: Flat, terms: Terms, *, written: bool
) -> ActorCritic:
    if written:
        return Written(actor, critic, terms)
    return Autograd(actor, critic, flat, terms)


class Team(Protocol):
    """Who computes gradients while a rollout is learned from."""

    def tell(self, order_B: Tensor) -> Tensor:
        """Return *order_B*, the order of an epoch; the leader's, if ranks are processes."""

    def gradient(self, batch: Batch[Any], clip: float) -> Losses:
        """Return the losses, and leave the gradient of their total in `Flat.grad`."""


class Whole:
    """One learner, whose minibatches are not cut."""

    def __init__(self, learner: Learner) -> None:
        self.gradient = learner.net.gradient

    def tell(self, order_B: Tensor) -> Tensor:
        return order_B


class Shards:
    """So many learners, whose turns are all taken here."""

    def __init__(self, learner: Learner, count: int, device: torch.device | None = None) -> None:
        actor, critic, terms, written, flat, *_ = self.learner = learner
        self.count = count
        # Advantages are normalised among a whole minibatch, before it is cut.
        bare = terms._replace(normalize_advantage=False)
        self.net = _net(actor, critic, flat, bare, written=written)
        room = count, len(flat.grad) + len(Losses._fields)
        self.rows_RP = torch.zeros(room, device=device or flat.grad.device)

    def tell(self, order_B: Tensor) -> Tensor:
        return order_B

    def gradient(self, batch: Batch[Any], clip: float) -> Losses:
        whole = batch._replace(advantage_B=self.learner.net.standard(batch.advantage_B))
        self._fill(whole, clip)
        return self._join(len(batch.advantage_B))

    def _fill(self, batch: Batch[Any], clip: float) -> None:
        for rank, row_P in enumerate(self.rows_RP):
            self._compute(rank, batch, clip, row_P)

    def _compute(self, rank: int, batch: Batch[Any], clip: float, row_P: Tensor) -> None:
        """Put gradient and losses of the shard of *rank* into *row_P*."""
        start, stop = cut(len(batch.advantage_B), rank, self.count)
        if start == stop:  # fewer rows than ranks
            row_P.zero_()
            return
        losses = self.net.gradient(Batch(*(rows[start:stop] for rows in batch)), clip)
        row_P[: -len(losses)].copy_(self.learner.flat.grad)
        row_P[-len(losses) :].copy_(torch.tensor(losses))

    def _join(self, size: int) -> Losses:
        """Add the shards of a minibatch of *size* rows, each for as much as it holds of them."""
        total_P = torch.zeros_like(self.rows_RP[0])
        for rank, row_P in enumerate(self.rows_RP):
            start, stop = cut(size, rank, self.count)
            total_P.add_(row_P, alpha=(stop - start) / size)
        losses = Losses(*total_P[-len(Losses._fields) :].tolist())
        self.learner.flat.grad.copy_(total_P[: -len(losses)])
        return losses


def cut(size: int, rank: int, count: int) -> tuple[int, int]:
    """Return where the shard of *rank* begins and ends among *size* rows."""
    return size * rank // count, size * (rank + 1) // count
