"""What Ray says that a node has, as the house counts it. Without Ray."""

from collections.abc import Mapping
from typing import Any

from rigorl.resources import Needs

OURS = ("CPU", "GPU", "memory", "object_store_memory")
NODE_ID = "ray.io/node-id"


def counted(found: Mapping[str, Any], labels: Mapping[str, str]) -> Needs:
    """Return Ray's resources and *labels* without those that only Ray uses."""
    return Needs(
        cpus=found.get("CPU", 0.0),
        gpus=found.get("GPU", 0.0),
        memory=int(found.get("memory", 0)),
        resources={key: amount for key, amount in sorted(found.items()) if _is_a_persons(key)},
        labels={key: value for key, value in labels.items() if key != NODE_ID},
    )


def _is_a_persons(resource: str) -> bool:
    return resource not in OURS and not resource.startswith("node:") and "_group_" not in resource
