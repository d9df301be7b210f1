"""Processes of one trial meet, and hear each other: rank 0 leads, the others follow.

They meet at a board of the leader's, for one rollout, and form a group of their own: torch's
default group, of which a process has but one, is not touched.
"""

import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed
from torch import Tensor

from rigorl.blocks.board import Board, Visit
from rigorl.errors import CrewError

dist: Any = torch.distributed  # whose types hide half of it
PATIENCE = 120.0
"""Seconds that the others may take to come, and to compute a gradient."""
ENDLESS = timedelta(days=365)
"""What followers wait: an exam may hold up the leader. If it dies, its sockets say so at once."""
GLANCE = 0.1
"""Seconds between two looks at those who are still to come: are they alive?"""
BACKEND = "backend"
ABROAD = ("192.0.2.1", 9)
"""An address that belongs to nobody (RFC 5737). Nothing is sent there."""


class Place(NamedTuple):
    """Where to meet. Only who knows *token* is let in."""

    host: str
    port: int
    token: str
    ranks: int


class Link:
    """What one rank hears and says. All ranks must do the same, in the same order."""

    def __init__(self, group: Any, device: torch.device, board: Board | Visit) -> None:
        self.group, self.device, self.board = group, device, board

    def gather(self, mine: Tensor, rows_RP: Tensor) -> None:
        """Fill *rows_RP* with what each rank calls *mine*."""
        with heard():
            self.group.allgather([list(rows_RP)], [mine]).wait()

    def spread(self, tensor: Tensor) -> Tensor:
        """Fill *tensor* with what the leader has there."""
        there = tensor.to(self.device).contiguous()
        with heard():
            self.group.broadcast(there, 0).wait()
        return tensor.copy_(there)

    def close(self) -> None:
        """Hang up. Who still listens is told so, by an error."""
        self.group = None
        self.board.close()


class Meeting:
    """The leader's side. Those who come are told from those who come twice."""

    def __init__(self, count: int) -> None:
        host, token = address(), secrets.token_hex(16)
        self.board = Board(host, token, PATIENCE)
        self.place = Place(host, self.board.port, token, count)

    def begin(self, device: torch.device, futures: Sequence["Future[Any]"]) -> Link:
        """Return the link, once all have come whose work *futures* stand for."""
        ranks, until = self.place.ranks, time.monotonic() + PATIENCE
        came = [_came(rank) for rank in range(1, ranks)]
        while not self.board.see(came, GLANCE):
            gone = [rank for rank, future in enumerate(futures, 1) if future.done()]
            if gone or time.monotonic() > until:
                raise CrewError(
                    f"all {ranks} learners must come, but rank {gone[0]} ended at once"
                    if gone
                    else f"all {ranks} learners must come, but not all did in {PATIENCE:g} s; "
                    "is the crew busy with something else?"
                )
        chosen = backend([_name(device), *(self.board.get(name).decode() for name in came)])
        self.board.leave(BACKEND, chosen.encode())
        return _form(self.board, self.place, 0, device, chosen)

    def close(self) -> None:
        """Send away those who have come, and those who are still to come."""
        self.board.close()


def attend(place: Place, rank: int, device: torch.device) -> Link:
    """Meet the leader as *rank*; `CrewError` if it has left, or *rank* has come before."""
    visit = Visit(place.host, place.port, place.token, 2 * PATIENCE)
    try:
        _come(visit, rank, device)
        link = _form(visit, place, rank, device, visit.get(BACKEND).decode())
    except CrewError:
        visit.close()
        raise
    link.group.set_timeout(ENDLESS)
    return link


def _come(visit: Visit, rank: int, device: torch.device) -> None:
    if not visit.leave(_came(rank), _name(device).encode()):
        raise CrewError(
            f"each rank must come once, but rank {rank} has come before; the others will miss "
            "the first one, and the trial goes on from its checkpoint"
        )


def _form(board: Board | Visit, place: Place, rank: int, device: torch.device, chosen: str) -> Link:
    """Return the link of *rank*, when all have called this."""
    patience = timedelta(seconds=PATIENCE)
    with heard():
        if chosen == "nccl":
            nccl = dist.ProcessGroupNCCL.Options()
            nccl._timeout = patience  # noqa: SLF001  so in torch itself
            return Link(dist.ProcessGroupNCCL(board, rank, place.ranks, nccl), device, board)
        gloo = dist.ProcessGroupGloo._Options()  # noqa: SLF001
        gloo._timeout = patience  # noqa: SLF001
        # By the address that leads there: a host's own name often means its loopback.
        mine = dist.ProcessGroupGloo.create_device(hostname=address((place.host, place.port)))
        gloo._devices = [mine]  # noqa: SLF001
        group = dist.ProcessGroupGloo(board, rank, place.ranks, gloo)
        return Link(group, torch.device("cpu"), board)


def backend(devices: Sequence[str]) -> str:
    """Return how ranks on *devices* talk: NCCL wants a GPU for each, of its own."""
    own = len(set(devices)) == len(devices) and "cpu" not in devices
    return "nccl" if own and dist.is_nccl_available() else "gloo"


def _name(device: torch.device) -> str:
    """Return a name that no other device has; all CPUs are one."""
    if device.type == "cpu":
        return "cpu"
    return str(torch.cuda.get_device_properties(device).uuid)


def address(towards: tuple[str, int] = ABROAD) -> str:
    """Return the address by which others reach this machine, on the way to *towards*."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(towards)  # asks for the way; nothing is sent
            return str(probe.getsockname()[0])
        except OSError:
            pass
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


@contextmanager
def heard() -> Iterator[None]:
    """Say in our words what torch says when another rank is gone, or is not heard of."""
    try:
        yield
    except RuntimeError as error:
        raise CrewError(
            "all learners of a trial must be heard until its rollout is learned from, but one "
            f"was not: {str(error).splitlines()[0]}"
        ) from error


def _came(rank: int) -> str:
    return f"came/{rank}"
