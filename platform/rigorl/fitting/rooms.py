"""How many trials fit on the nodes of a cluster.

It places as Ray does, first come, first served, so the numbers are what can be had, not
what a better packing might give. Amounts are counted in ten-thousandths, as Ray counts them. A
part of a GPU never straddles two devices. Of free GPUs Ray tells only the sum of a node, so
their parts are taken to lie together.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from rigorl.resources import Needs, Strategy

UNIT = 10_000
MOST = 10_000
"""More trials at once are not counted."""


class Node(NamedTuple):
    """What a node has, what is free of it, and, in `total`, the labels that it carries."""

    name: str
    total: Needs
    free: Needs


class Room:
    """What is left on a node while processes are placed there."""

    def __init__(self, name: str, has: Needs, labels: Mapping[str, str]) -> None:
        self.name, self.labels = name, labels
        self.left = amounts_of(has)
        whole, part = divmod(self.left.pop("GPU", 0), UNIT)
        self.devices = [UNIT] * whole + [part] * (part > 0)

    def copy(self) -> "Room":
        twin = Room(self.name, Needs(0), self.labels)
        twin.left, twin.devices = dict(self.left), list(self.devices)
        return twin

    def has(self, kind: str) -> int:
        return sum(self.devices) if kind == "GPU" else self.left.get(kind, 0)

    def lacks(self, one: Needs) -> list[str]:
        """Return the kinds of what a process needs and does not find here."""
        lacking = [f"label {key}" for key, value in one.labels.items() if not self._is(key, value)]
        for kind, amount in amounts_of(one).items():
            enough = self._is_on_devices(amount) if kind == "GPU" else self.has(kind) >= amount
            if amount and not enough:
                lacking.append(kind)
        return lacking

    def take(self, one: Needs) -> bool:
        """Place a process here if there is room for it."""
        if self.lacks(one):
            return False
        for kind, amount in amounts_of(one).items():
            if kind == "GPU":
                self._take_devices(amount)
            elif amount:
                self.left[kind] -= amount
        return True

    def take_all(self, needs: Sequence[Needs]) -> bool:
        """Place all of these processes here, or none."""
        twin = self.copy()
        if not all(twin.take(one) for one in needs):
            return False
        self.left, self.devices = twin.left, twin.devices
        return True

    def _is(self, key: str, wanted: str) -> bool:
        """Say whether a label is as *wanted*, in Ray's words: x, !x, in(x,y) or !in(x,y)."""
        among = wanted.removeprefix("!")
        values = [among] if among == among.removeprefix("in(") else re.split(r"[,()]\s*", among)[1:]
        return (self.labels.get(key) in values) != wanted.startswith("!")

    def _is_on_devices(self, amount: int) -> bool:
        if amount > UNIT:
            return amount % UNIT == 0 and self.devices.count(UNIT) >= amount // UNIT
        return any(left >= amount for left in self.devices)

    def _take_devices(self, amount: int) -> None:
        for _ in range(amount // UNIT):
            self.devices.remove(UNIT)
        if part := amount % UNIT:
            tightest = min(left for left in self.devices if left >= part)
            self.devices[self.devices.index(tightest)] -= part


def placements(
    needs: Sequence[Needs],
    strategy: Strategy,
    nodes: Sequence[Node],
    *,
    free: bool = False,
    most: int = MOST,
) -> list[tuple[str, ...]]:
    """Return, for each of at *most* so many trials that have room, the node of each process."""
    return list(islice(_placed(needs, strategy, rooms_of(nodes, free=free)), most))


def trials_at_once(
    needs: Sequence[Needs], strategy: Strategy, nodes: Sequence[Node], *, free: bool = False
) -> int:
    """Return how many trials have room side by side: in all, or in what is *free* now.

    Another node, last in line, never makes it fewer.
    """
    return len(placements(needs, strategy, nodes, free=free))


def _placed(
    needs: Sequence[Needs], strategy: Strategy, rooms: list[Room]
) -> Iterator[tuple[str, ...]]:
    """Yield the places of one trial after another.

    All trials are alike, so the first that finds no room is the last.
    """
    if strategy in ("SPREAD", "STRICT_SPREAD"):
        times = [[_times(one, room) for room in rooms] for one in needs]
        while places := _apart(needs, rooms, times, strict=strategy == "STRICT_SPREAD"):
            yield places
        return
    for room in rooms:
        while room.take_all(_by_size(needs)):
            yield (room.name,) * len(needs)
    while strategy != "STRICT_PACK" and (places := _anywhere(needs, rooms)):
        yield places


def _anywhere(needs: Sequence[Needs], rooms: Sequence[Room]) -> tuple[str, ...]:
    places: dict[int, str] = {}
    for at in _order(needs):
        room = next((room for room in rooms if room.take(needs[at])), None)
        if room is None:
            return ()
        places[at] = room.name
    return tuple(places[at] for at in range(len(needs)))


def _apart(
    needs: Sequence[Needs], rooms: Sequence[Room], times: list[list[int]], *, strict: bool
) -> tuple[str, ...]:
    """Place each process on a node of its own, the roomiest first: so most are left for later.

    If not *strict*, where there is none, on one that others of the trial are on. *times*, how
    often which process fits where, is kept up to date.
    """
    places: dict[int, int] = {}
    for at in _order(needs):
        used = set(places.values())
        alone = [0 if i in used else often for i, often in enumerate(times[at])]
        open_ = alone if strict or any(alone) else times[at]
        roomiest = max(range(len(rooms)), key=open_.__getitem__, default=-1)
        if roomiest < 0 or not open_[roomiest]:
            return ()
        places[at] = roomiest
        rooms[roomiest].take(needs[at])
        for one, often in zip(needs, times, strict=True):
            often[roomiest] = _times(one, rooms[roomiest])
    return tuple(rooms[places[at]].name for at in range(len(needs)))


def _times(one: Needs, room: Room) -> int:
    """Return how often a process fits in a room."""
    if room.lacks(one):
        return 0
    amounts = amounts_of(one)
    part = amounts.pop("GPU")
    counts = [room.has(kind) // amount for kind, amount in amounts.items() if amount]
    if part > UNIT:
        counts.append(room.devices.count(UNIT) // (part // UNIT))
    elif part:
        counts.append(sum(left // part for left in room.devices))
    return min(counts, default=MOST)


def _order(needs: Sequence[Needs]) -> list[int]:
    """Return who is placed first: those that need what is rare."""
    return sorted(range(len(needs)), key=lambda at: _size(needs[at]), reverse=True)


def _by_size(needs: Sequence[Needs]) -> list[Needs]:
    return [needs[at] for at in _order(needs)]


def _size(one: Needs) -> tuple[float, ...]:
    return one.gpus, sum(one.resources.values()), len(one.labels), one.cpus, one.memory


def amounts_of(one: Needs) -> dict[str, int]:
    """Return each kind that is counted, in ten-thousandths."""
    counted = {"CPU": one.cpus, "GPU": one.gpus, "memory": one.memory, **one.resources}
    return {kind: round(amount * UNIT) for kind, amount in counted.items()}


def rooms_of(nodes: Sequence[Node], *, free: bool) -> list[Room]:
    return [Room(node.name, node.free if free else node.total, node.total.labels) for node in nodes]
