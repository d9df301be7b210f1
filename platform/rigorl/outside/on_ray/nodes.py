"""What the nodes of a cluster have, how many trials fit there, and what is short."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import ray
from ray._private.state import available_resources_per_node

from rigorl.resources import Needs, Strategy

OURS = ("node:", "object_store_memory", "accelerator_type:")
"""Resources that Ray counts for itself."""
SLACK = 1e-6
"""Ten times 0.1 is 1."""


class Node(NamedTuple):
    """What a node has, what is free of it, and, in `total`, the labels that it carries."""

    name: str
    total: Needs
    free: Needs


def nodes() -> list[Node]:
    """Return the nodes that are alive."""
    free = available_resources_per_node()
    return [
        Node(
            node["NodeName"],
            _needs(node["Resources"], node["Labels"]),
            _needs(free.get(node["NodeID"], {}), {}),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def _needs(amounts: Mapping[str, float], labels: Mapping[str, str]) -> Needs:
    own = {key: amount for key, amount in amounts.items() if not key.startswith(OURS)}
    cpus, gpus, memory = (own.pop(key, 0) for key in ("CPU", "GPU", "memory"))
    return Needs(cpus, gpus, int(memory), own, dict(labels))


def trials_at_once(
    needs: Sequence[Needs], strategy: Strategy, nodes: Sequence[Node], *, free: bool = False
) -> int:
    """Return how many trials have room side by side, at most: in all, or in what is *free*."""
    del strategy
    counts: Counter[str] = Counter(map(repr, needs))
    rooms = [
        sum(_times(one, node.free if free else node.total, node.total.labels) for node in nodes)
        // counts[repr(one)]
        for one in needs
    ]
    return min(rooms)


def _times(one: Needs, has: Needs, labels: Mapping[str, str]) -> int:
    if any(labels.get(key) != value for key, value in one.labels.items()):
        return 0
    there = {"CPU": has.cpus, "GPU": has.gpus, "memory": has.memory, **has.resources}
    asked = {"CPU": one.cpus, "GPU": one.gpus, "memory": one.memory, **one.resources}
    return min(
        (math.floor(there.get(key, 0) / amount + SLACK) for key, amount in asked.items() if amount),
        default=1,
    )


def short_of(needs: Sequence[Needs], strategy: Strategy, nodes: Sequence[Node]) -> str:
    """Say why a trial is not placed now: what is short, and where. Empty if there is room."""
    if trials_at_once(needs, strategy, nodes, free=True):
        return ""
    ask = " and ".join(
        f"{amount:g} {kind}"
        for kind, amount in (
            ("CPUs", sum(one.cpus for one in needs)),
            ("GPUs", sum(one.gpus for one in needs)),
        )
        if amount
    )
    return f"waits for {ask}, and no node has them free"
