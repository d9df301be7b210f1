"""Why a trial is not placed, now or ever: what is short, and where."""

import math
from collections.abc import Iterable, Mapping, Sequence

from rigorl.fitting.rooms import UNIT, Node, Room, amounts_of, placements, rooms_of
from rigorl.resources import Needs, Strategy

NAMED = 4
"""Nodes that are named before the others are only counted."""


def never(needs: Sequence[Needs], strategy: Strategy, nodes: Sequence[Node]) -> str:
    """Say why not even one trial fits on these *nodes* when all is free; empty if one does."""
    if not nodes:
        return "there is no node"
    rooms = rooms_of(nodes, free=False)
    for at, one in enumerate(needs):
        if all(room.lacks(one) for room in rooms):
            return f"{_who(at, needs)}asks for {_ask(one)} on one node; {_nearest(one, rooms)}"
    if placements(needs, strategy, nodes, most=1):
        return ""
    ask = f"its {len(needs)} processes ask for {_ask(_sum(needs))}{_parts(needs)}"
    if strategy == "STRICT_PACK":
        return f"{ask} on one node (STRICT_PACK); {_nearest(_together(needs), rooms)}"
    if strategy == "STRICT_SPREAD":
        able = [room.name for room in rooms if any(not room.lacks(one) for one in needs)]
        return (
            f"its {len(needs)} processes ask for a node each (STRICT_SPREAD), "
            f"and of all only {_names(able)} can hold one"
        )
    return f"{ask}, and all nodes together have {_ask(_all(nodes, free=False))}"


def short_of(needs: Sequence[Needs], strategy: Strategy, nodes: Sequence[Node]) -> str:
    """Say why a trial is not placed now: what is short, and where. Empty if there is room."""
    if reason := never(needs, strategy, nodes):
        return f"waits for nodes that are not there: {reason}"
    if placements(needs, strategy, nodes, free=True, most=1):
        return ""
    free = rooms_of(nodes, free=True)
    for at, one in enumerate(needs):
        if all(room.lacks(one) for room in free):
            return f"{_who(at, needs)}waits for {_taken(one, nodes, free)}"
    if strategy == "STRICT_PACK":
        return f"waits for {_taken(_together(needs), nodes, free)} (STRICT_PACK: all on one node)"
    if strategy == "STRICT_SPREAD":
        able = [room.name for room in free if any(not room.lacks(one) for one in needs)]
        return f"waits for {len(needs)} nodes (STRICT_SPREAD); room now: {_names(able) or 'none'}"
    ask, left = _ask(_sum(needs)), _ask(_all(nodes, free=True))
    return f"waits for {ask}{_parts(needs)}; free, here and there: {left or 'nothing'}"


def _sum(needs: Sequence[Needs]) -> Needs:
    """Return what these processes need together."""
    kinds = {kind for one in needs for kind in one.resources}
    return Needs(
        cpus=sum(one.cpus for one in needs),
        gpus=sum(one.gpus for one in needs),
        memory=sum(one.memory for one in needs),
        resources={kind: sum(o.resources.get(kind, 0) for o in needs) for kind in sorted(kinds)},
        labels={key: value for one in needs for key, value in one.labels.items()},
    )


def _together(needs: Sequence[Needs]) -> Needs:
    """Return what they need on one node: of GPUs at least so many devices."""
    together = _sum(needs)
    return together._replace(gpus=math.ceil(together.gpus)) if together.gpus > 1 else together


def _all(nodes: Sequence[Node], *, free: bool) -> Needs:
    return _sum([node.free if free else node.total for node in nodes])._replace(labels={})


def _who(at: int, needs: Sequence[Needs]) -> str:
    if len(needs) == 1:
        return ""
    return "a member of its crew " if at else "the learner "


def _parts(needs: Sequence[Needs]) -> str:
    parted = any(0 < one.gpus < 1 for one in needs)
    return " (each part of a GPU on one device)" if parted else ""


def _nearest(one: Needs, rooms: Sequence[Room]) -> str:
    """Say what the node has that lacks least of what a process needs."""

    def missing(room: Room) -> float:
        lacking = room.lacks(one)
        asked = amounts_of(one)
        return sum(1 - room.has(kind) / asked[kind] if kind in asked else 1 for kind in lacking)

    nearest = min(rooms, key=missing)
    lacking = nearest.lacks(one)
    has = [_amount(kind, nearest.has(kind)) for kind in lacking if kind in amounts_of(one)]
    for key in one.labels:
        if f"label {key}" in lacking:
            carried = nearest.labels.get(key)
            has.append(f"the label {key}={carried}" if carried else f"no label {key}")
    return f"the nearest, {nearest.name}, has {_and(has) or 'that, but not for all of them'}"


def _taken(one: Needs, nodes: Sequence[Node], free: Sequence[Room]) -> str:
    """Say what a process waits for: what of it is taken on the nodes that could hold it."""
    able = [
        (room, whole)
        for room, whole in zip(free, rooms_of(nodes, free=False), strict=True)
        if not whole.lacks(one)
    ]
    short = {room.name: room.lacks(one) for room, _ in able}
    kinds = sorted({kind for lacking in short.values() for kind in lacking}) or ["GPU"]
    asked = amounts_of(one)
    ask = _and([_amount(kind, asked[kind]) for kind in kinds])
    if len(kinds) > 1:
        alike: dict[str, list[str]] = {}
        for name, lacking in short.items():
            alike.setdefault(_and(map(_kind, lacking)), []).append(name)
        each = [f"too little {lacking} on {_names(names)}" for lacking, names in alike.items()]
        return f"{ask}: {'; '.join(each)}"
    (kind,) = kinds
    total = sum(whole.has(kind) for _, whole in able)
    left = {room.name: room.has(kind) for room, _ in able}
    if not any(left.values()):
        spread = _spread({whole.name: whole.has(kind) for _, whole in able}, kind)
        return f"{ask}: all {_number(total, kind)} are taken, {spread}"
    some = _spread({name: amount for name, amount in left.items() if amount}, kind)
    return f"{ask}: of {_number(total, kind)}, {_number(sum(left.values()), kind)} free, {some}"


def _spread(amounts: Mapping[str, int], kind: str) -> str:
    """Return `2 on each of a, b; 1 on c`."""
    alike: dict[int, list[str]] = {}
    for name, amount in amounts.items():
        alike.setdefault(amount, []).append(name)
    return "; ".join(
        f"{_number(amount, kind)} on {'each of ' if len(names) > 1 else ''}{_names(names)}"
        for amount, names in alike.items()
    )


def _names(names: Sequence[str]) -> str:
    if len(names) > NAMED + 1:
        return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
    return _and(names)


def _and(parts: Iterable[str]) -> str:
    *first, last = [*parts] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def _ask(one: Needs) -> str:
    """Return `1 CPU, 2 GPUs and the label zone=eu`."""
    counted = [_amount(kind, amount) for kind, amount in amounts_of(one).items() if amount]
    return _and(counted + [f"the label {key}={value}" for key, value in one.labels.items()])


def _amount(kind: str, amount: int) -> str:
    if kind == "memory":
        return f"{_number(amount, kind)} of memory"
    number = _number(amount, kind)
    if kind in ("CPU", "GPU"):
        return f"{number} {kind}{'' if number == '1' else 's'}" if amount else f"no {kind}"
    return f"{number} of {kind!r}"


def _number(amount: int, kind: str) -> str:
    if kind != "memory":
        return f"{amount / UNIT:g}"
    size, unit = amount / UNIT, 0
    while size >= 1024 and unit < 4:  # noqa: PLR2004
        size, unit = size / 1024, unit + 1
    return f"{size:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"


def _kind(kind: str) -> str:
    return kind if kind in ("CPU", "GPU", "memory") else repr(kind)
