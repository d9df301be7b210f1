"""A crew on Ray keeps its promises: the same results, whatever dies and wherever it sits."""

import os
import pickle
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from helpers import crew as scenes
from helpers import mishaps
from helpers.mishaps import Deadly
from rigorl.errors import CrewError, TrialFailed
from rigorl.outside.in_process import Alone
from rigorl.outside.on_ray import crew as on_ray
from rigorl.outside.on_ray.cluster import QUIET
from rigorl.outside.on_ray.crew import AHEAD, RayCrew
from rigorl.outside.on_ray.deaths import Death
from rigorl.outside.on_ray.items import LOSSES, TRIES, Job, of_deaths
from rigorl.outside.on_ray.parcel import pack
from rigorl.resources import Needs

pytestmark = pytest.mark.filterwarnings("default")
SMALL = Needs(cpus=0.25)  # all that is tried here fits twice
NODE = {"num_cpus": 2, "num_gpus": 2}
SOON = {  # a node that is gone is missed after a second
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 300,
    "health_check_failure_threshold": 3,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that does no work, and two nodes that do, as far as Ray knows with GPUs."""
    os.environ.update(QUIET)
    head = {"num_cpus": 0, "resources": {"head": 1}, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head | {"_system_config": SOON})
    try:
        cluster.add_node(**NODE, labels={"zone": "a"})
        cluster.add_node(**NODE, labels={"zone": "b"})
        root = Path(__file__).parents[2]
        paths = [str(root / "platform"), str(root / "tests")]
        env = {"OMP_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(paths)}  # members take 1
        ray.init(
            address=cluster.address,
            log_to_driver=False,
            logging_level="error",
            runtime_env={"env_vars": env},
        )
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


class Stage:
    """A trial in a placement group of its own."""

    def __init__(self, learner: dict[str, float], *members: dict[str, float], how: str) -> None:
        self.group = ray.util.placement_group([learner, *members], strategy=how)
        where = PlacementGroupSchedulingStrategy(self.group, 0)
        rest = {key: value for key, value in learner.items() if key != "CPU"}
        self.trial = (
            ray.remote(scenes.Trial)
            .options(num_cpus=learner.get("CPU", 0), resources=rest, scheduling_strategy=where)
            .remote()
        )

    def play(
        self, scene: Callable[..., Any], *args: Any, size: int = 2, needs: Needs = SMALL
    ) -> Any:
        return ray.get(self.trial.play.remote(scene, size, needs, *args), timeout=60)

    def close(self) -> None:
        ray.kill(self.trial)
        ray.util.remove_placement_group(self.group)


@pytest.fixture(scope="module")
def stage(cluster: Cluster) -> Iterator[Stage]:
    """A trial that may have up to three members."""
    stage = Stage(*[{"CPU": 0.25}] * 4, how="PACK")
    yield stage
    stage.close()


def test_results_come_in_the_order_of_items_of_which_there_may_be_no_end(stage: Stage) -> None:
    squares, pulled = stage.play(scenes.first_squares)
    assert squares == [i * i for i in range(10)]
    assert pulled <= 10 + AHEAD * 2


def test_exams_are_to_the_byte_those_of_one_process_whatever_the_size(stage: Stage) -> None:
    expected = scenes.exams(Alone())
    assert len(set(expected)) == len(expected)
    for size in (1, 2, 3):
        assert stage.play(scenes.exams, size=size) == expected


def test_what_is_shared_travels_once(stage: Stage) -> None:
    results, packed, size = stage.play(scenes.weigh_all)
    assert results == [(number, 5_120_000, True) for number in range(20)]
    assert packed == 1
    assert size < 1_000


def test_what_is_small_does_not_go_through_the_object_store(stage: Stage) -> None:
    assert stage.play(scenes.share_small_and_large) == [True, False]


def test_what_is_shared_is_known_for_as_long_as_it_lives(stage: Stage) -> None:
    sums, same = stage.play(scenes.share_again)
    assert sums == [4 * number for number in range(50)]
    assert same == [True, False]


def test_an_item_may_be_changed_once_it_is_handed_over(stage: Stage) -> None:
    assert stage.play(scenes.changed_afterwards) == [4 * number for number in range(8)]


def test_a_member_that_is_killed_is_replaced_and_nothing_is_lost(
    stage: Stage, tmp_path: Path
) -> None:
    item = Deadly(tmp_path / "tally", times=TRIES - 1)
    before, survived, others, after = stage.play(mishaps.among_others, item)
    assert item.tally.stat().st_size == TRIES
    assert others == [i * i for i in range(8)]
    assert survived["pid"] not in {where["pid"] for where in before}
    assert [len(before), len(after)] == [2, 2]
    assert sorted(w["node"] for w in after) == sorted(w["node"] for w in before)
    assert {where["threads"] for where in before + after} == {"1"}


@pytest.mark.parametrize(
    ("way", "cause"),
    [
        ("kill", "it was killed from outside"),
        ("segfault", "or native code crashed"),
        ("exit", "its process ended itself with exit code 3"),
    ],
)
def test_an_item_that_always_kills_is_given_up_in_words(
    way: str, cause: str, stage: Stage, tmp_path: Path
) -> None:
    item = Deadly(tmp_path / "tally", times=99, way=way)
    error, _, later = stage.play(mishaps.said, mishaps.survive, item)
    assert type(error) is CrewError
    assert "must outlive its item, but 3 died of the same one: it" in str(error)
    assert cause in str(error)
    assert item.tally.stat().st_size == TRIES
    assert later == 3


def test_a_mistake_comes_out_as_itself_and_is_not_tried_again(stage: Stage, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    error, where, later = stage.play(mishaps.said, mishaps.diverge, tally)
    assert type(error) is TrialFailed
    assert str(error) == "loss must be finite, but is nan; lower the rate"
    assert "in diverge" in where
    assert tally.stat().st_size == 1
    assert later == 3


@pytest.mark.parametrize(
    ("function", "kind", "words"),
    [
        (mishaps.be_peculiar, RuntimeError, "PeculiarError: 1 and 1"),
        (mishaps.answer_unreadably, ValueError, "not a number"),
        (mishaps.answer_nothing_that_travels, TypeError, "lock"),
    ],
)
def test_what_does_not_travel_is_a_mistake_of_its_item(
    function: Callable[[Any], Any], kind: type[Exception], words: str, stage: Stage
) -> None:
    error, _, later = stage.play(mishaps.said, function, "1")
    assert type(error) is kind
    assert words in str(error)
    assert later == 3


def test_what_is_shared_and_cannot_be_read_is_a_mistake_too(stage: Stage) -> None:
    error, where, later = stage.play(mishaps.share_unreadable)
    assert "not a number" in str(error) + where
    assert not isinstance(error, CrewError)
    assert later == 3


def test_who_hands_over_too_much_has_to_wait(stage: Stage, tmp_path: Path) -> None:
    assert stage.play(scenes.held_back, tmp_path / "gate") == (AHEAD * 2, 100)


def test_members_work_while_the_learner_computes(stage: Stage) -> None:
    assert stage.play(scenes.compute_meanwhile) >= 6


def test_nothing_is_left_of_a_crew_that_is_closed_in_mid_item(stage: Stage) -> None:
    pids, cancelled, said = stage.play(scenes.close_early)
    assert cancelled == [True] * 4
    assert "must be open" in str(said)
    assert len(pids) == 2
    _gone(pids)


def test_nothing_is_left_of_a_crew_whose_trial_is_killed(cluster: Cluster) -> None:
    stage = Stage(*[{"CPU": 0.25}] * 3, how="PACK")
    pids = stage.play(scenes.leave)
    ray.kill(stage.trial)
    assert len(pids) == 2
    _gone(pids)
    stage.close()


def test_a_crew_whose_members_cannot_start_says_so(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "Member", mishaps.Stillborn)
    with RayCrew(2, SMALL) as crew:
        with pytest.raises(CrewError, match="the last one could not start, 3 times: ") as caught:
            crew.submit(abs, -3).result(30)
        assert "it could not begin: OSError: no such library" in str(caught.value)
        with pytest.raises(CrewError, match="could not start"):
            crew.submit(abs, -3)


def test_a_member_that_no_node_can_take_is_not_waited_for_for_ever(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "SEATED", 0.3)
    with RayCrew(1, Needs(cpus=0.25, resources={"nowhere": 1})) as crew:
        words = r"3 times: it was not there after 0.3 s; maybe no node has room for it; mend"
        with pytest.raises(CrewError, match=words):
            crew.submit(abs, -3).result(30)


def test_members_that_are_lost_with_their_nodes_are_no_fault_of_an_item() -> None:
    job, lost, killed = Job(pack((abs, -3))), Death("x", node_lost=True), Death("y")
    job.deaths = [lost] * LOSSES + [killed] * (TRIES - 1)
    assert not job.is_given_up
    for more in (lost, killed):
        job.deaths.append(more)
        assert job.is_given_up
        job.deaths.pop()


def test_what_members_died_of_is_said_first_and_once() -> None:
    lost = Death("its node n was lost", node_lost=True)
    found = of_deaths(CrewError("one was not heard"), [lost, lost])
    assert str(found) == "a member of its crew is gone: its node n was lost; so one was not heard"
    assert pickle.loads(pickle.dumps(found)).node_lost  # noqa: S301
    assert str(of_deaths(found, [lost])) == str(found)
    assert not of_deaths(found, [lost, Death("killed")]).node_lost


def test_members_with_a_half_share_a_gpu(cluster: Cluster) -> None:
    member = {"CPU": 0.25, "GPU": 0.5}
    stage = Stage({"CPU": 0.25}, member, member, how="STRICT_PACK")
    first, second = stage.play(scenes.places, needs=Needs(cpus=0.25, gpus=0.5))
    assert first["gpus"] == second["gpus"] != ""
    stage.close()


def test_members_kept_apart_sit_on_different_nodes(cluster: Cluster) -> None:
    stage = Stage({"head": 1}, {"CPU": 0.25}, {"CPU": 0.25}, how="STRICT_SPREAD")
    first, second = stage.play(scenes.places)
    assert first["node"] != second["node"]
    stage.close()


def test_without_a_group_members_sit_where_the_labels_say(cluster: Cluster) -> None:
    zones = {node["NodeID"]: node["Labels"].get("zone") for node in ray.nodes()}
    for zone in ("a", "b"):
        with RayCrew(2, Needs(cpus=0.25, labels={"zone": zone})) as crew:
            assert [zones[where["node"]] for where in scenes.places(crew)] == [zone, zone]


def test_a_node_that_is_lost_in_mid_item_costs_time_and_no_result(
    cluster: Cluster, tmp_path: Path
) -> None:
    stage = Stage({"CPU": 0.25}, {"CPU": 0.25}, how="STRICT_SPREAD")
    own, member, _ = stage.play(mishaps.nodes, Deadly(tmp_path / "none", times=0), size=1)
    cluster.add_node(**NODE)
    item = Deadly(tmp_path / "tally", times=1, way="wait")
    waiting = stage.trial.play.remote(mishaps.nodes, 1, SMALL, item)
    _until(item.tally.exists)
    (lost,) = (node for node in cluster.worker_nodes if node.node_id == member)
    cluster.remove_node(lost, allow_graceful=False)
    own_then, member_then, (death,) = ray.get(waiting, timeout=60)
    assert own_then == own
    assert member_then not in {own, member}
    assert re.match(r"its node .* was lost", death.words)
    assert death.node_lost
    stage.close()


def _gone(pids: list[int]) -> None:
    _until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)
