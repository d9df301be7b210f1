"""A learner in several processes: rank 0 is the agent itself, the others follow.

They follow for one rollout and no longer: between two, the crew is free for other work, and the
agent may be examined, saved, or closed. They are told the weights, the moments of Adam, the whole
rollout, and in each epoch the order of its rows; then each computes its shard of every minibatch,
hears the others', and takes the same step of Adam.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from rigorl.blocks.actor_critic import Terms
from rigorl.blocks.actors import Actor
from rigorl.blocks.meeting import PATIENCE, Link, Meeting, Place, attend
from rigorl.blocks.rollout import Batch, minibatches
from rigorl.blocks.shards import Learner, Lesson, Shards, Team, Whole, assemble
from rigorl.errors import CrewError, SpecError

GRACE = 10.0
"""Seconds that followers have to end in when the leader leaves them."""
STOP = -1
"""In place of an order: there is no further epoch."""


class Crew(Protocol):
    """What is asked here of `contract.Crew`."""

    @property
    def size(self) -> int: ...

    def submit(self, function: Callable[["Rank"], None], item: "Rank") -> "Future[None]": ...


class Rank(NamedTuple):
    """What a follower must know before it hears the leader. Networks come without weights."""

    number: int
    place: Place
    lesson: Lesson
    actor: Actor
    critic: nn.Sequential
    terms: Terms
    written: bool
    adam_eps: float
    columns: tuple[tuple[tuple[int, ...], str], ...]
    """Shape and type of each part of the rollout."""
    gpu: bool
    """The leader learns on a GPU. So does a follower that has one."""


class Member(Shards):
    """One of so many learners; the others are heard over *link*."""

    def __init__(self, learner: Learner, count: int, rank: int, link: Link) -> None:
        super().__init__(learner, count, link.device)
        self.rank, self.link = rank, link
        self._mine_P = torch.zeros_like(self.rows_RP[0])

    def tell(self, order_B: Tensor) -> Tensor:
        return self.link.spread(order_B)

    def share(self, batch: Batch[Any]) -> None:
        """Make the followers' weights, moments and *batch* the leader's."""
        for tensor in (*self.learner.state(), *map(torch.from_numpy, batch)):
            self.link.spread(tensor)

    def _fill(self, batch: Batch[Any], clip: float) -> None:
        self._compute(self.rank, batch, clip, self._mine_P)
        self.link.gather(self._mine_P, self.rows_RP)


def check(count: int, members: int) -> str | None:
    """Return what is wrong with *count* learners and a crew of so many *members*, if anything."""
    if 0 < members < count - 1:
        return (
            f"a crew must be at least as large as the learners beside the first, or none, but "
            f"learners is {count} and placement.crew.size {members}; set "
            f"placement.crew.size to {count - 1} or 0, or learners to {members + 1}"
        )
    return None


@contextmanager
def muster(
    count: int, crew: Crew, learner: Learner, lesson: Lesson, batch: Batch[Any]
) -> Iterator[Team]:
    """Learn from *batch* with *count* learners: with those of *crew*, if it has any.

    Raises `CrewError` if one of them is lost. None is at work afterwards.
    """
    fault = check(count, crew.size)
    if fault:
        raise SpecError(fault, "$.placement.crew.size")
    if count == 1:
        yield Whole(learner)
    elif crew.size == 0:
        yield Shards(learner, count)
    else:
        with _lead(count, crew, learner, lesson, batch) as team:
            yield team


@contextmanager
def _lead(
    count: int, crew: Crew, learner: Learner, lesson: Lesson, batch: Batch[Any]
) -> Iterator[Team]:
    meeting, futures = Meeting(count), list["Future[None]"]()
    link: Link | Meeting = meeting
    try:
        try:
            for number in range(1, count):
                rank = _rank(number, meeting.place, learner, lesson, batch)
                futures.append(crew.submit(follow, rank))
            link = meeting.begin(learner.flat.grad.device, futures)
            member = Member(learner, count, 0, link)
            member.share(batch)
            yield member
            member.tell(torch.full((len(batch.return_B),), STOP))
            wait(futures, timeout=PATIENCE)
        finally:
            _leave(link, futures)
    except CrewError as error:
        raise CrewError(f"{error}{_causes(futures)}") from error


def _leave(link: Link | Meeting, futures: Sequence["Future[None]"]) -> None:
    """Hang up, and wait a moment for the followers to notice."""
    link.close()
    for future in futures:
        future.cancel()  # if it has not begun
    wait(futures, timeout=GRACE)


def _causes(futures: Sequence["Future[None]"]) -> str:
    """Return what the followers died of, but for those who only missed another."""
    told = ""
    for rank, future in enumerate(futures, 1):
        error = future.exception() if future.done() and not future.cancelled() else None
        if error and not isinstance(error, CrewError):
            told += f"; rank {rank}: {type(error).__name__}: {error}"
    return told


def _rank(number: int, place: Place, learner: Learner, lesson: Lesson, batch: Batch[Any]) -> Rank:
    return Rank(
        number,
        place,
        lesson,
        copy.deepcopy(learner.actor).to("meta"),
        copy.deepcopy(learner.critic).to("meta"),
        learner.terms,
        learner.written,
        learner.adam.eps,
        tuple((rows.shape, str(rows.dtype)) for rows in batch),
        learner.flat.grad.device.type == "cuda",
    )


def follow(rank: Rank) -> None:
    """Learn from one rollout as *rank*; `CrewError` if the leader or another one is lost.

    Whoever does this a second time finds its place taken, or nobody there, and raises it too.
    """
    gpu = rank.gpu and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    link = attend(rank.place, rank.number, device)
    try:
        # The item stays as it is: it may be tried again.
        actor = copy.deepcopy(rank.actor).to_empty(device=device)
        critic = copy.deepcopy(rank.critic).to_empty(device=device)
        learner = assemble(actor, critic, rank.terms, rank.adam_eps, written=rank.written)
        _follow(Member(learner, rank.place.ranks, rank.number, link), rank)
    finally:
        link.close()


def _follow(member: Member, rank: Rank) -> None:
    lesson, (*_, flat, adam, net) = rank.lesson, member.learner
    batch: Batch[Any] = Batch(*(np.empty(shape, dtype) for shape, dtype in rank.columns))
    member.share(batch)
    held, order_B = net.hold(batch), torch.empty(len(batch.return_B), dtype=torch.int64)
    while member.tell(order_B)[0] != STOP:
        for part in minibatches(held, lesson.minibatch, net.order(order_B)):
            member.gradient(part, lesson.clip)
            adam.step([flat.grad], lesson.lr, lesson.max_grad_norm)
