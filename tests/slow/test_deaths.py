"""Real deaths on a real Ray, each told in a sentence: what, and where."""

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.exceptions import WorkerCrashedError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from helpers.mortal import Mortal, hold, raise_in_two_steps
from helpers.trials import trial
from rigorl.outside.on_ray import worker
from rigorl.outside.on_ray.deaths import Death, cause, last_words
from rigorl.outside.on_ray.nodes import nodes
from rigorl.outside.on_ray.tries import FAILURES, LOSSES, Tries
from rigorl.outside.on_ray.worker import Terms
from rigorl.trial import Bundle, Failure

pytestmark = pytest.mark.filterwarnings("default")
ROOM = 2**30
"""Bytes above what is in use now at which Ray's memory monitor begins to kill on one node."""
STORE = 80 * 2**20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that plays nothing, and a node; its workers can import the tests' helpers."""
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root / "platform"), str(root / "tests")])
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
    head["_system_config"] = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 500,
        "health_check_failure_threshold": 3,
    }
    found = Cluster(initialize_head=True, head_node_args=head)
    found.add_node(num_cpus=2, object_store_memory=STORE)
    env = {"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}}
    ray.init(address=found.address, log_to_driver=False, logging_level="error", runtime_env=env)
    yield found
    ray.shutdown()
    found.shutdown()


def mortal(*args: Any, **options: Any) -> Any:
    return ray.remote(Mortal).options(num_cpus=0.1, **options).remote(*args)


def death_of(call: Any, left: Path | None = None) -> Death:
    with pytest.raises(Exception) as caught:  # noqa: PT011  Ray's have no common ancestor with ours
        ray.get(call, timeout=60)
    death = cause(caught.value, last_words(left) if left else "")
    assert "\n" not in death.words
    assert not re.search("[0-9a-f]{16}|/ray/|Actor|\x1b", death.words), death.words
    return death


def test_a_kill_from_outside_is_told_from_a_crash(cluster: Cluster, tmp_path: Path) -> None:
    victim = mortal(tmp_path / "words")
    pid = ray.get(victim.pid.remote())
    call = victim.sleep.remote()
    time.sleep(0.3)
    os.kill(pid, signal.SIGKILL)
    death = death_of(call, tmp_path / "words")
    assert re.search(r"killed from outside on [\d.]+, by SIGKILL.*dmesg", death.words)
    assert not death.node_lost
    assert "native code crashed without last words" in death_of(victim.pid.remote()).words


@pytest.mark.parametrize(
    ("how", "fault"), [("segfault", "Segmentation fault"), ("abort", "Aborted")]
)
def test_a_crash_in_native_code_says_where(
    cluster: Cluster, tmp_path: Path, how: str, fault: str
) -> None:
    file = tmp_path / "left" / "words"
    victim = mortal(file)
    ray.get(victim.pid.remote())
    assert last_words(file) == ""
    death = death_of(victim.do.remote(how), file)
    assert "native code crashed on " in death.words
    assert re.search(rf"{fault} in .*helpers/mortal.py:\d+ in {how}", death.words), death.words
    assert not death.node_lost


def test_last_words_are_those_of_one_attempt(tmp_path: Path) -> None:
    """The next worker may die before it can leave any, and of something else."""
    terms, bundle = Terms(str(tmp_path)), Bundle(trials=(trial(),))
    file = tmp_path / bundle.id / "last-words"
    file.parent.mkdir()
    file.write_text(
        'Fatal Python error: Aborted\n\nCurrent thread 0x1:\n  File "a.py", line 1 in b\n'
    )
    gone = WorkerCrashedError()
    assert "native code crashed: Aborted in" in worker.death(gone, terms, bundle).words
    assert "killed from outside" in worker.death(gone, terms, bundle).words


def test_a_bundle_is_not_charged_with_the_nodes_it_loses() -> None:
    tries, bundle = Tries(), Bundle(trials=(trial(),))
    deaths = [Death("its node was lost", node_lost=True)] * LOSSES + [Death("killed")] * FAILURES
    assert all(tries.mourn(bundle, death)[0] for death in deaths)
    again, (_, failure) = tries.mourn(bundle, Death("killed"))
    assert not again
    assert isinstance(failure, Failure)
    assert failure.cause == "its node was lost (its worker died 3 times, the last time: killed)"


def test_ends_of_its_own_and_by_others_are_told(cluster: Cluster) -> None:
    victim = mortal()
    assert "ended itself with exit code 3 on" in death_of(victim.do.remote("leave")).words
    victim = mortal()
    pid = ray.get(victim.pid.remote())
    call = victim.sleep.remote()
    time.sleep(0.3)
    os.kill(pid, signal.SIGTERM)
    assert "ended from outside by SIGTERM on" in death_of(call).words
    victim = mortal()
    ray.get(victim.pid.remote())
    call = victim.sleep.remote()
    ray.kill(victim)
    assert "it was ended by its driver" in death_of(call).words


def test_a_constructor_that_raises_says_what_and_where(cluster: Cluster) -> None:
    victim = mortal(Path("/proc/none/words"))
    death = death_of(victim.pid.remote())
    assert death.words.startswith("it could not begin: FileNotFoundError: [Errno 2] No such file")
    assert re.search(r"'/proc/none' \(on_ray/deaths.py:\d+ in leave_words\)", death.words)


def test_what_a_worker_raises_is_said_first_cause_first(cluster: Cluster) -> None:
    task = ray.remote(raise_in_two_steps).options(max_retries=0)
    words = death_of(task.remote()).words
    assert re.fullmatch(
        r"KeyError: 'inner'; so ValueError: outer of two lines \(helpers/mortal.py:\d+ in raise_in_two_steps\)",
        words,
    ), words
    words = death_of(mortal().do.remote("fail_for_good")).words
    assert words == "loss must be finite, but is nan; lower lr"


def test_what_died_inside_a_worker_is_the_cause_outside(cluster: Cluster) -> None:
    assert "killed from outside" in death_of(mortal().do.remote("lose_a_crew")).words


def test_an_import_that_fails_is_named(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once inside a worker, and once because only the driver has the module."""
    assert death_of(mortal().do.remote("bring")).words.startswith(
        "ModuleNotFoundError: No module named 'nowhere_at_all' (helpers/mortal.py:"
    )
    (tmp_path / "only_here.py").write_text("class Actor:\n    def answer(self): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # type: ignore[import-not-found]

    words = death_of(ray.remote(only_here.Actor).remote().answer.remote()).words
    assert "No module named 'only_here'" in words
    del sys.modules["only_here"]


def test_an_environment_that_cannot_be_made_says_why(cluster: Cluster) -> None:
    env = {"working_dir": "https://127.0.0.1:9/none.zip"}
    words = death_of(mortal(runtime_env=env).pid.remote()).words
    assert re.match(r"its environment could not be set up on [\d.]+: ConnectionRefused", words)


def test_a_place_that_is_taken_back_is_said(cluster: Cluster) -> None:
    group = placement_group([{"CPU": 0.5}])
    ray.get(group.ready())
    victim = mortal(scheduling_strategy=PlacementGroupSchedulingStrategy(group))
    ray.get(victim.pid.remote())
    call = victim.sleep.remote()
    remove_placement_group(group)
    assert "its place was taken back by its driver" in death_of(call).words


def test_out_of_memory_says_how_much_of_how_much(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node of its own, whose limit is little more than what is in use now."""
    memory = psutil.virtual_memory()
    if memory.available < 4 * ROOM:
        pytest.skip("too little memory is free to use up a part of it safely")
    limit = (memory.total - memory.available + ROOM) / memory.total
    monkeypatch.setenv("RAY_memory_usage_threshold", str(limit))
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    tight = cluster.add_node(num_cpus=1, resources={"tight": 1}, object_store_memory=STORE)
    death = death_of(mortal(resources={"tight": 1}).do.remote("grow"))
    cluster.remove_node(tight)
    assert re.search(
        r"out of memory: Ray's memory monitor ended it, with [\d.]+GB .* when [\d.]+GB of "
        r"[\d.]+GB were in use.*, more than the [\d.]+% that Ray allows",
        death.words,
    ), death.words
    assert not death.node_lost


def test_a_node_that_is_lost_is_named(cluster: Cluster) -> None:
    """At once only the connection is gone; Ray knows a little later."""
    lost = cluster.add_node(num_cpus=1, resources={"lost": 1}, object_store_memory=STORE)
    victim = mortal(resources={"lost": 0.1})
    ray.get(victim.pid.remote())
    call = victim.sleep.remote()
    held = ray.remote(hold).options(num_cpus=0.1, resources={"lost": 0.1}, max_retries=0).remote()
    ray.wait([held], fetch_local=False)
    time.sleep(0.3)
    cluster.remove_node(lost, allow_graceful=False)
    early = death_of(call)
    assert early.node_lost
    assert re.match(r"its node [\d.]+ was lost", early.words), early.words
    while any(found.total.resources.get("lost") for found in nodes()):
        time.sleep(0.1)
    late = death_of(victim.pid.remote())
    assert late.node_lost
    assert re.match(r"its node [\d.]+ was lost", late.words), late.words
    held_death = death_of(held)
    assert held_death.node_lost
    assert "lost with its node" in held_death.words
