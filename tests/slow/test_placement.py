"""Trials on a cluster of several nodes: where they go, and what becomes of them when nodes do."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.cluster_utils import Cluster

from conftest import tiny
from helpers.placed import Place, places
from rigorl import experiment
from rigorl.errors import StorageError
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess, Memory
from rigorl.outside.on_ray import shared
from rigorl.outside.on_ray.cluster import QUIET, RayCluster
from rigorl.resources import Needs
from rigorl.trial import Event, Report, Trial, Trouble, Waiting

pytestmark = pytest.mark.filterwarnings("default")
NODE = {"num_cpus": 2, "num_gpus": 2}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that plays nothing, and four nodes of two CPUs and two GPUs that are not there."""
    os.environ.update(QUIET)
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root / "platform"), str(root / "tests")])
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    for words in ({"labels": {"room": "a"}}, {"labels": {"room": "b"}}, {"resources": {"arm": 2}}):
        cluster.add_node(**NODE, **words)
    cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    ray.init(
        address=cluster.address,
        log_to_driver=False,
        logging_level="error",
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}},
    )
    yield cluster
    ray.shutdown()
    cluster.shutdown()


class Heard(Memory):
    """A journal that keeps every event and lets somebody know of it."""

    def __init__(self, hear: Callable[[Event], None] = lambda _: None) -> None:
        super().__init__()
        self.hear = hear
        self.events: list[Event] = []

    def record(self, trials: Sequence[Trial], events: Sequence[Event]) -> None:
        super().record(trials, events)
        self.events += events
        for event in events:
            self.hear(event)


class Stage:
    """A study whose trials leave word of where they began."""

    def __init__(self, home: Path, trials: int, changes: Any = None, **config: Any) -> None:
        self.home, self.words = home, home / "words"
        self.words.mkdir(parents=True)
        agent = {"name": "helpers.placed", "config": {"folder": str(self.words), **config}}
        parts = {"arms": {"x": {"agent": agent}}, "seeds": {"test": list(range(trials))}}
        self.spec = tiny(**{**parts, **(changes or {})})

    def play(
        self, needs: Sequence[Needs], journal: Memory | None = None, **terms: Any
    ) -> list[Place]:
        cluster = RayCluster(self.home / "there", needs, **terms)
        verdict = experiment.run(self.spec, cluster, journal or Memory(), optuna_ask.ask)
        assert verdict.arms["x"].complete
        return places(self.words)

    def play_here(self, journal: Memory) -> None:
        experiment.run(self.spec, InProcess(self.home / "here"), journal, optuna_ask.ask)


def node_with(label: str = "", resource: str = "") -> str:
    (found,) = (
        node["NodeID"]
        for node in ray.nodes()
        if node["Alive"]
        and (node["Labels"].get("room") == label if label else resource in node["Resources"])
    )
    return str(found)


def test_trials_spread_over_all_gpus(cluster: Cluster, tmp_path: Path) -> None:
    found = Stage(tmp_path, 8, together=8).play([Needs(0.5, gpus=1)])
    assert set(Counter((place.node, place.devices) for place in found).values()) == {1}
    assert set(Counter(place.node for place in found).values()) == {2}


def test_four_share_a_gpu(cluster: Cluster, tmp_path: Path) -> None:
    quarter = Needs(0.2, gpus=0.25, labels={"room": "a"})
    found = Stage(tmp_path, 4, together=4).play([quarter])
    assert {place.node for place in found} == {node_with("a")}
    assert len({place.devices for place in found}) == 1


def test_labels_resources_and_memory_say_where(cluster: Cluster, tmp_path: Path) -> None:
    there = Stage(tmp_path / "1", 2).play([Needs(labels={"room": "b"})])
    assert {place.node for place in there} == {node_with("b")}
    there = Stage(tmp_path / "2", 2).play([Needs(memory=2**20, resources={"arm": 1})])
    assert {place.node for place in there} == {node_with(resource="arm")}


def test_a_crew_is_spread_strictly_and_its_room_is_given_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    needs = [Needs(1), Needs(1), Needs(1, labels={"room": "b"})]
    found = Stage(tmp_path, 2).play(needs, strategy="STRICT_SPREAD", crew=2)
    for place in found:
        assert len(set(place.group.values())) == 3
        assert place.group[0] == place.node
        assert place.group[2] == node_with("b")
    table = ray.util.placement_group_table()
    assert {group["state"] for group in table.values()} == {"REMOVED"}


def test_a_node_on_which_the_storage_refuses_is_named_and_why(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(storage: str, token: str) -> bool:
        raise StorageError("access is denied")

    monkeypatch.setattr(shared, "_sees", refuse)
    with pytest.raises(StorageError, match=r"is not seen on .* \(access is denied\); choose"):
        shared.check(str(tmp_path / "there"))
    assert not list(tmp_path.glob("there/*")), "what was left there is taken away"


def test_a_node_that_is_lost_costs_nothing_but_time(cluster: Cluster, tmp_path: Path) -> None:
    firm, frail = (cluster.add_node(num_cpus=2, labels={"room": "lab"}) for _ in range(2))
    budget = {"steps": 40, "exam_every": 10, "exam_episodes": 1, "checkpoint_every": 10}
    killed: list[str] = []

    def kill(event: Event) -> None:
        if isinstance(event, Report) and event.step >= 20 and not killed:
            killed.append(frail.node_id)
            cluster.remove_node(frail, allow_graceful=False)

    stage = Stage(tmp_path, 3, {"budget": budget}, together=3, pause=0.15)
    disturbed, whole = Heard(kill), Memory()
    found = stage.play([Needs(1, labels={"room": "lab"})], disturbed)
    assert {place.node for place in found[:3]} == {firm.node_id, frail.node_id}
    assert {place.node for place in found[3:]} == {firm.node_id}
    troubles = [event.cause for event in disturbed.events if isinstance(event, Trouble)]
    assert troubles
    assert all("node" in cause for cause in troubles), troubles
    stage.play_here(whole)
    assert disturbed.told == whole.told


def test_room_is_asked_for_and_a_node_that_comes_is_used(cluster: Cluster, tmp_path: Path) -> None:
    asked: list[Any] = []

    def grow(event: Event) -> None:
        if isinstance(event, Waiting) and not asked:
            status = get_cluster_status(ray.get_runtime_context().gcs_address)
            asked.append(status.resource_demands)
            cluster.add_node(num_cpus=2, resources={"late": 2})

    found = Stage(tmp_path, 3).play([Needs(1, resources={"late": 1})], Heard(grow))
    assert {place.node for place in found} == {node_with(resource="late")}
    (demands,) = asked
    assert demands.ray_task_actor_demand
