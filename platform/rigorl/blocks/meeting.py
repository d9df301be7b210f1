"""Processes of one trial meet, and hear each other: rank 0 leads, the others follow.

They meet at a store of the leader's, for one rollout, and form a group of their own: torch's
default group, of which a process has but one, is not touched.
"""

import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed
from torch import Tensor

from rigorl.errors import CrewError

dist: Any = torch.distributed  # whose types hide half of it
PATIENCE = 120.0
"""Seconds that the others may take to come, and to compute a gradient."""
ENDLESS = timedelta(days=365)
"""What followers wait: an exam may hold up the leader. If it dies, its sockets say so at once."""
GLANCE = timedelta(seconds=0.1)
"""Between two looks at those who are still to come: are they alive?"""
ABROAD = ("192.0.2.1", 9)
"""An address that belongs to nobody (RFC 5737). Nothing is sent there."""


class Place(NamedTuple):
    """Where to meet. *token* tells this meeting from others that had the same port."""

    host: str
    port: int
    token: str
    ranks: int


class Link:
    """What one rank hears and says. All ranks must do the same, in the same order."""

    def __init__(self, group: Any, device: torch.device) -> None:
        self.group, self.device = group, device

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


class Meeting:
    """The leader's side. Those who come are told from those who come twice."""

    def __init__(self, count: int) -> None:
        host, patience = address(), timedelta(seconds=PATIENCE)
        self.store = dist.TCPStore(host, 0, None, True, patience, wait_for_workers=False)
        self.place = Place(host, self.store.port, secrets.token_hex(8), count)
        self.store.set(self.place.token, "")

    def begin(self, device: torch.device, futures: Sequence["Future[Any]"]) -> Link:
        """Return the link, once all have come whose work *futures* stand for."""
        place, devices = self.place, [_name(device)]
        names = [_key(place, "device", rank) for rank in range(1, place.ranks)]
        until = time.monotonic() + PATIENCE
        while not self.store.check(names):
            gone = [rank for rank, future in enumerate(futures, 1) if future.done()]
            if gone or time.monotonic() > until:
                raise CrewError(
                    f"all {place.ranks} learners must come, but rank {gone[0]} ended at once"
                    if gone
                    else f"all {place.ranks} learners must come, but not all did in "
                    f"{PATIENCE:g} s; is the crew busy with something else?"
                )
            _look(self.store, names)
        devices += [self.store.get(name).decode() for name in names]
        self.store.set(_key(place, "backend"), backend(devices))
        return _form(self.store, place, 0, device, backend(devices))


def attend(place: Place, rank: int, device: torch.device) -> Link:
    """Meet the leader as *rank*; `CrewError` if it has left, or *rank* has come before."""
    with heard():
        store = _knock(place)
        if not store.check([place.token]):
            raise CrewError("a follower must find its leader, but another one is there")
        if store.add(_key(place, "claim", rank), 1) > 1:
            raise CrewError(
                f"each rank must come once, but rank {rank} has come before; the others will "
                "miss the first one and begin anew"
            )
        store.set(_key(place, "device", rank), _name(device))
        chosen = store.get(_key(place, "backend")).decode()
        link = _form(store, place, rank, device, chosen)
        link.group.set_timeout(ENDLESS)
    return link


def _knock(place: Place) -> Any:
    """Return the leader's store. Torch would try in vain for long, and aloud."""
    at, patience = (place.host, place.port), timedelta(seconds=PATIENCE)
    try:
        socket.create_connection(at, timeout=PATIENCE).close()
    except OSError as error:
        raise CrewError(f"a follower must find its leader, but at {at}: {error}") from error
    return dist.TCPStore(*at, None, False, patience, wait_for_workers=False)


def _form(store: Any, place: Place, rank: int, device: torch.device, chosen: str) -> Link:
    """Return the link of *rank*, when all have called this."""
    kept, patience = dist.PrefixStore(place.token, store), timedelta(seconds=PATIENCE)
    with heard():
        if chosen == "nccl":
            nccl = dist.ProcessGroupNCCL.Options()
            nccl._timeout = patience  # noqa: SLF001  so in torch itself
            return Link(dist.ProcessGroupNCCL(kept, rank, place.ranks, nccl), device)
        gloo = dist.ProcessGroupGloo._Options()  # noqa: SLF001
        gloo._timeout = patience  # noqa: SLF001
        # By the address that leads there: a host's own name often means its loopback.
        mine = dist.ProcessGroupGloo.create_device(hostname=address((place.host, place.port)))
        gloo._devices = [mine]  # noqa: SLF001
        return Link(dist.ProcessGroupGloo(kept, rank, place.ranks, gloo), torch.device("cpu"))


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


def _look(store: Any, names: list[str]) -> None:
    with suppress(dist.DistStoreError):
        store.wait(names, GLANCE)


def _key(place: Place, *what: str | int) -> str:
    return "/".join(map(str, (place.token, *what)))
