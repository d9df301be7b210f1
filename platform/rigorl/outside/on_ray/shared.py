"""Whether each node sees what trials keep: a trial may be taken up again on any of them."""

import secrets

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as OnNode

from rigorl.checkpoint import find, leave
from rigorl.errors import StorageError
from rigorl.outside import bucket
from rigorl.outside.on_ray.deaths import cause

PATIENCE = 60.0
"""Seconds for a node to look; one that does not answer is left to Ray, which knows it better."""


def check(storage: str) -> None:
    """Refuse a *storage* that is another one on another node of the cluster that we joined."""
    here = ray.get_runtime_context().get_node_id()
    nodes = {n["NodeID"]: n["NodeName"] for n in ray.nodes() if n["Alive"] and n["NodeID"] != here}
    if not nodes:
        return
    store = bucket.opened(storage)
    tokens = {node: secrets.token_hex(8) for node in nodes}
    for token in tokens.values():
        leave(store, token)
    look = ray.remote(num_cpus=0, max_retries=0)(_sees)
    asked = {
        look.options(scheduling_strategy=OnNode(node, soft=False)).remote(storage, token): node
        for node, token in tokens.items()
    }
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=PATIENCE)
    faults = [(nodes[asked[one]], _fault(one)) for one in ready]
    blind = sorted({f"{node}{why}" for node, why in faults if why is not None})
    for token in tokens.values():
        find(store, token)  # those that nobody took away
    if blind:
        raise StorageError(
            f"each node must see what trials keep, but {storage} as it is here is not seen on "
            f"{', '.join(blind)}; choose with --storage a folder that all nodes mount, or a "
            "bucket as s3://bucket/prefix"
        )


def _sees(storage: str, token: str) -> bool:
    return find(bucket.opened(storage), token)


def _fault(one: "ray.ObjectRef[bool]") -> str | None:
    """Say what keeps a node from seeing, if anything; one that has gone is not to blame."""
    try:
        return None if ray.get(one) else ""
    except RayTaskError as error:
        return f" ({cause(error).words})"
    except RayError:
        return None
