"""What is there and what fits is what a real Ray then places."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from helpers.commands import SPEC, rigorl
from rigorl.outside.on_ray.nodes import joined, nodes, short_of, trials_at_once
from rigorl.resources import Needs, Strategy

pytestmark = pytest.mark.filterwarnings("default")
STORE = 80 * 2**20
MORE = 2
"""Trials that Ray is asked for beyond those that have room."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
    found = Cluster(initialize_head=True, head_node_args=head)
    has: dict[str, Any] = {"num_cpus": 4, "object_store_memory": STORE}
    found.add_node(**has, num_gpus=2, resources={"arm": 1}, labels={"zone": "eu"})
    found.add_node(**has, num_gpus=1)
    ray.init(address=found.address, log_to_driver=False, logging_level="error")
    yield found
    ray.shutdown()
    found.shutdown()


def ask_ray(needs: list[Needs], strategy: Strategy) -> PlacementGroup:
    parts = [
        {"CPU": one.cpus, "GPU": one.gpus, "memory": one.memory, **one.resources} for one in needs
    ]
    return placement_group(
        [{kind: amount for kind, amount in part.items() if amount} for part in parts],
        strategy=strategy,
        bundle_label_selector=[dict(one.labels) for one in needs],
    )


def placed(groups: list[PlacementGroup], at_least: int) -> int:
    """Count those that Ray has placed when so many are, and a moment later."""
    begun, last = time.monotonic(), 0.0
    while time.monotonic() - begun < 20 and (not last or time.monotonic() - last < 1):
        states = [placement_group_table(group)["state"] for group in groups]
        if states.count("CREATED") >= at_least and not last:
            last = time.monotonic()
        time.sleep(0.05)
    return states.count("CREATED")


@pytest.mark.parametrize(
    ("needs", "strategy", "expected"),
    [
        ([Needs(1)], "PACK", 8),
        ([Needs(1, 1)], "PACK", 3),
        ([Needs(0.5, 0.75), Needs(0.5, 0.75)], "PACK", 1),
        ([Needs(0.5, 0.75), Needs(0.5, 0.25)], "STRICT_PACK", 3),
        ([Needs(1, 1), Needs(1), Needs(1)], "PACK", 2),
        ([Needs(1), Needs(1)], "STRICT_SPREAD", 4),
        ([Needs(2), Needs(1)], "STRICT_PACK", 2),
        ([Needs(1, labels={"zone": "eu"})], "PACK", 4),
        ([Needs(1, labels={"zone": "!eu"}), Needs(1)], "SPREAD", 4),
        ([Needs(1, resources={"arm": 0.5})], "PACK", 2),
    ],
)
def test_ray_places_as_many_as_we_say(
    cluster: Cluster, needs: list[Needs], strategy: Strategy, expected: int
) -> None:
    here = [node for node in nodes() if node.total.cpus]
    assert trials_at_once(needs, strategy, here) == expected
    groups = [ask_ray(needs, strategy) for _ in range(expected + MORE)]
    try:
        assert placed(groups, expected) == expected
        assert short_of(needs, strategy, nodes()).startswith(
            ("waits for", "the learner", "a member")
        )
    finally:
        for group in groups:
            remove_placement_group(group)
        while any(node.free.cpus < node.total.cpus for node in nodes()):
            time.sleep(0.05)


def test_what_is_there_and_what_is_free_is_seen(cluster: Cluster) -> None:
    head, small, node = sorted(nodes(), key=lambda node: (node.total.cpus, node.total.gpus))
    assert len({head.name, small.name, node.name}) == 3, "on one machine they share an address"
    assert head.total.cpus == 0
    assert (node.total.cpus, node.total.gpus) == (4, 2)
    assert node.total.resources == {"arm": 1}
    assert node.total.labels == {"zone": "eu"}
    assert node.total.memory > 2**30
    needs = [Needs(1, 1, labels={"zone": "eu"})]
    assert short_of(needs, "PACK", nodes()) == ""
    group = ask_ray([Needs(1, 2)], "PACK")
    assert group.wait(20)
    (free,) = (found.free for found in nodes() if found.total.gpus == 2)
    assert (free.cpus, free.gpus) == (3, 0)
    assert short_of(needs, "PACK", nodes()) == f"waits for 1 GPU: all 2 are taken, 2 on {node.name}"
    remove_placement_group(group)


def test_the_plan_says_what_fits_on_the_cluster(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.yaml").write_text(SPEC)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    crewed = ("--set", "placement.crew.size=1")
    done = rigorl(tmp_path, "plan", "small.yaml", "--cluster", *crewed)
    assert done.returncode == 0, done.stderr
    assert "4 when all is free" in done.stdout
    assert "arm, zone=eu" in done.stdout
    never = rigorl(tmp_path, "plan", "small.yaml", "--cluster", "--json", "--set", "budget.gpus=3")
    assert never.returncode == 1, never.stderr
    told = json.loads(never.stdout)
    assert told["wall_s"] is None
    assert told["cluster"]["at_once"] == 0
    assert "asks for 1 CPU and 3 GPUs on one node; the nearest" in told["cluster"]["never"]
    assert len(told["cluster"]["nodes"]) == 3


def test_without_an_address_there_is_no_cluster_to_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.yaml").write_text(SPEC)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    done = rigorl(tmp_path, "plan", "small.yaml", "--cluster")
    assert done.returncode == 2
    assert "RAY_ADDRESS is not set" in done.stderr


def test_who_is_part_of_a_cluster_stays_it(cluster: Cluster) -> None:
    with joined():
        assert nodes()
    assert ray.is_initialized()
