"""What nodes a Ray cluster has, and what of them is free."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
import ray._private.state

from rigorl.errors import SpecError
from rigorl.fitting import Node, never, short_of, trials_at_once
from rigorl.resources import Needs

__all__ = ["Node", "joined", "never", "nodes", "short_of", "trials_at_once"]
OURS = ("CPU", "GPU", "memory", "object_store_memory")
NODE_ID = "ray.io/node-id"


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
        labels = {key: value for key, value in node["Labels"].items() if key != NODE_ID}
        found.append(
            Node(
                name if names[name] == 1 else f"{name}:{node['NodeManagerPort']}",
                _needs(node["Resources"], labels),
                _needs(free.get(node["NodeID"], {}), {}),
            )
        )
    return sorted(found)


def _needs(found: Mapping[str, Any], labels: Mapping[str, str]) -> Needs:
    """Return Ray's resources as the house counts them, without those that only Ray uses."""
    return Needs(
        cpus=found.get("CPU", 0.0),
        gpus=found.get("GPU", 0.0),
        memory=int(found.get("memory", 0)),
        resources={key: amount for key, amount in sorted(found.items()) if _is_a_persons(key)},
        labels=labels,
    )


def _is_a_persons(resource: str) -> bool:
    return resource not in OURS and not resource.startswith("node:") and "_group_" not in resource
