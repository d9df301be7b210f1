"""Nothing is lost, nothing doubled, nothing diverges: the table of crashes in its short form.

`make crash` is the long one.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import crashes
from helpers.crashes import LOCAL
from helpers.postgres import Postgres
from rigorl import crash
from rigorl.outside.selftest import RAY, Bench, Case

pytestmark = pytest.mark.filterwarnings("default")
PLACES = {
    "journal.before_commit": 9,
    "journal.after_commit": 20,
    "checkpoint.write": 5,
    "checkpoint.before_rename": 3,
    "checkpoint.after_rename": 7,
    "roll_back.before": 2,
    "roll_back.after": 3,
    "exam": 33,
    "learn": 51,
    "search.tell": 2,
    "verdict": 1,
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return crashes.bench(tmp_path_factory.mktemp("crash"))


@pytest.fixture(scope="module")
def slow_bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One whose study takes some seconds, so that others can die in the middle."""
    return crashes.bench(tmp_path_factory.mktemp("slow"), pause=0.004)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    postgres = Postgres(tmp_path)
    postgres.start()
    yield postgres
    postgres.stop()


def test_every_point_is_died_at() -> None:
    assert PLACES.keys() | {"mirror.flush"} == set(crash.POINTS)


@pytest.mark.parametrize(("point", "n"), PLACES.items())
def test_a_driver_killed_at(point: str, n: int, bench: Bench) -> None:
    result = bench.disturb(f"driver-{point}", Case(point, n, 2, LOCAL))
    assert result.ok, result


@pytest.mark.parametrize(
    ("point", "n"), [("learn", 20), ("checkpoint.before_rename", 3), ("roll_back.before", 1)]
)
def test_a_worker_of_ray_killed_at(point: str, n: int, bench: Bench) -> None:
    case = Case(point, n, 1, RAY)
    assert case.victim == "worker"
    result = bench.disturb(f"worker-{point}", case)
    assert result.ok, result


def test_a_driver_of_ray_killed(bench: Bench) -> None:
    result = bench.disturb("ray", Case("journal.after_commit", 30, 1, RAY))
    assert result.ok, result


def test_a_node_of_the_cluster_killed(slow_bench: Bench) -> None:
    result = crashes.node(slow_bench, "node", after=0.5)
    assert result.ok, result


def test_the_database_killed(slow_bench: Bench, server: Postgres) -> None:
    result = crashes.database(slow_bench, "database", server, after=(2.0,))
    assert result.ok, result


def test_the_mirror_and_the_server_of_mlflow_killed(slow_bench: Bench) -> None:
    result = crashes.mlflow(slow_bench, "mlflow", 15_017, after=1.0)
    assert result.ok, result


def test_the_disk_full(bench: Bench) -> None:
    result = crashes.disk(bench, "disk", room=300_000)
    assert result.ok, result


def test_the_clock_stepping(bench: Bench) -> None:
    result = crashes.clock(bench, "clock", seed=0)
    assert result.ok, result


def test_two_drivers_at_once(slow_bench: Bench) -> None:
    result = crashes.two_drivers(slow_bench, "two")
    assert result.ok, result


def test_a_driver_taken_for_dead(slow_bench: Bench) -> None:
    result = crashes.taken_for_dead(slow_bench, "frozen")
    assert result.ok, result
