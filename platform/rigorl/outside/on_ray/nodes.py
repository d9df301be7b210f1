"""What nodes a Ray cluster has, and what of them is free."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import ray._private.state

from rigorl.errors import SpecError
from rigorl.fitting import Node, never, short_of, trials_at_once
from rigorl.outside.on_ray.amounts import counted

__all__ = ["Node", "joined", "never", "nodes", "short_of", "trials_at_once"]


@contextmanager
def joined() -> Iterator[None]:
    """Be part of the cluster at RAY_ADDRESS for a while; refuse if there is none."""
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        raise SpecError(
            "--cluster must have a cluster to look at, but RAY_ADDRESS is not set; "
            "set it, or leave --cluster out to hear of this machine"
        )
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except ConnectionError as error:
        raise SpecError(
            f"RAY_ADDRESS must name a Ray cluster that answers, but {address}: {error}; start it"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def nodes() -> list[Node]:
    """Return the nodes of the cluster that we have joined, in an order that stays."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    free = ray._private.state.available_resources_per_node()  # noqa: SLF001  nowhere in public
    names = Counter(node["NodeName"] for node in alive)
    found = []
    for node in alive:
        name = node["NodeName"]
        found.append(
            Node(
                name if names[name] == 1 else f"{name}:{node['NodeManagerPort']}",
                counted(node["Resources"], node["Labels"]),
                counted(free.get(node["NodeID"], {}), {}),
            )
        )
    return sorted(found)
