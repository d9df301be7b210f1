"""What a trial needs, in Ray's words: the options of an actor, or a placement group."""

from collections.abc import Sequence
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rigorl.resources import Needs, Strategy

LEAST = 0.001
"""CPUs of a bundle for a process that needs nothing: Ray knows no empty bundle."""


def amounts(one: Needs) -> dict[str, float]:
    """Return what is counted, by Ray's names."""
    counted = {"CPU": one.cpus, "GPU": one.gpus, "memory": one.memory, **one.resources}
    return {kind: float(amount) for kind, amount in counted.items() if amount} or {"CPU": LEAST}


def group_of(needs: Sequence[Needs], strategy: Strategy) -> dict[str, Any]:
    """Return what a placement group for one trial is made with."""
    labels = [dict(one.labels) for one in needs]
    plain = {"bundles": [amounts(one) for one in needs], "strategy": strategy}
    return plain | ({"bundle_label_selector": labels} if any(labels) else {})


def options(needs: Sequence[Needs], strategy: Strategy) -> tuple[dict[str, Any], Any]:
    """Ask for room for one trial; return the options of its actor, and its placement group.

    A trial of one process needs no group.
    """
    first = needs[0]
    asked = {
        "num_cpus": first.cpus,
        "num_gpus": first.gpus,
        "memory": first.memory or None,
        "resources": dict(first.resources),
    }
    if len(needs) == 1:
        return asked | {"label_selector": dict(first.labels) or None}, None
    group = placement_group(**group_of(needs, strategy))
    inside = PlacementGroupSchedulingStrategy(
        group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
    )
    return asked | {"scheduling_strategy": inside}, group


def give_back(group: PlacementGroup | None) -> None:
    """Let others have the room of *group*."""
    if group is not None:
        ray.util.remove_placement_group(group)
