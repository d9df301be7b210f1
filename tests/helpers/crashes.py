"""Studies that are disturbed, each in its own way, and what becomes of them.

What dies, and how: a process at a named point or at any moment, a node of a Ray cluster, the
database, MLflow's server; a disk that fills, a clock that steps, a second driver.
"""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from helpers.postgres import Postgres
from rigorl import experiment
from rigorl.outside import optuna_ask, yaml_file
from rigorl.outside.in_process import InProcess
from rigorl.outside.journal import SqlJournal, export_study
from rigorl.outside.selftest import Bench, Case, Result, compare

TESTS = Path(__file__).parents[1]
SPEC = """
name: crash
question: Does a study lose anything when it is disturbed?
arms:
  plain: {agent: &agent {name: helpers.seeker, config: {rate: 0.02, pause: PAUSE}}}
  tuned:
    agent: *agent
    search:
      candidates: 6
      generation: 2
      prune: {grace: 0.1}
      space: {rate: {kind: real, low: 1e-3, high: 0.9, log: true}}
  halved:
    agent: *agent
    search:
      candidates: 4
      sampler: random
      prune: {kind: hyperband, grace: 0.2, eta: 2}
      space: {rate: {kind: real, low: 1e-3, high: 0.9, log: true}}
  placebo: {after: plain, agent: {name: frozen, config: {pause: 8}}}
tasks:
  - {name: half, env: helpers.worlds:Target-v0, kwargs: {noise: 0.01}, random: -2.5, reference: 0}
  - {name: less, env: helpers.worlds:Target-v0, kwargs: {target: 0.3}}
budget: {steps: 64, exam_every: 16, exam_episodes: 2, dense: [1, 3], checkpoint_every: 16}
seeds: {tune: [10, 11], test: [0, 1, 2]}
alarm: {drop: 0.05, within: 3, then: roll_back}
"""
LOCAL = ("--local", "--mlflow", "none")


def bench(place: Path, pause: float = 0.0) -> Bench:
    """Return a bench whose trials wait *pause* seconds at each update, so that one can aim."""
    paths = os.pathsep.join([str(TESTS.parent / "platform"), str(TESTS)])
    environment = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    place.mkdir(parents=True, exist_ok=True)
    return Bench(place, SPEC.replace("PAUSE", str(pause)), environment)


def judged(bench: Bench, name: str, what: str, faults: int, **more: Any) -> Result:
    """Finish the study *name*, which was disturbed, and compare."""
    words: Sequence[str] = more.get("words", LOCAL)
    start: float = more.get("start", time.monotonic())
    status = bench.run(name, words)
    told = bench.export(name, more.get("journal", ()))
    lost, doubled, diverged = compare(bench.undisturbed, told)
    seconds = time.monotonic() - start
    case = Case(what, 1, faults, tuple(words), more.get("who", "driver"))
    return Result(case, faults, lost, doubled, diverged + (status != 0), seconds)


def any_moment(bench: Bench, name: str, seed: int, kills: int) -> Result:
    """Kill the driver after random times, *kills* times; then let it finish."""
    random, start, faults = Random(seed), time.monotonic(), 0
    for _ in range(kills):
        with bench.start(name, LOCAL) as child:
            try:
                child.wait(0.7 + 1.5 * random.random())
            except subprocess.TimeoutExpired:
                child.kill()
                faults += 1
    return judged(bench, name, "any moment", faults, start=start)


def database(bench: Bench, name: str, server: Postgres, after: Sequence[float]) -> Result:
    """Kill PostgreSQL *after* so many seconds, again and again; the driver waits for it."""
    start = time.monotonic()
    journal = ("--journal", server.url)
    child = bench.start(name, (*LOCAL, *journal))
    with child:
        for seconds in after:
            time.sleep(seconds)
            assert child.poll() is None, "it was over before the database was killed"
            server.kill()
            server.start()
        assert child.wait(120) == 0, bench.log(name).read_text()
    words = (*LOCAL, *journal)
    return judged(
        bench,
        name,
        "any moment",
        len(after),
        who="PostgreSQL",
        words=words,
        journal=journal,
        start=start,
    )


def disk(bench: Bench, name: str, room: int) -> Result:
    """Let the disk fill with *room* bytes left; make room, and give the same command again."""
    start, place = time.monotonic(), bench.place / name
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(place)], check=True)
    try:
        ballast = place / "ballast"
        ballast.write_bytes(b"x" * (32 * 2**20 - room))
        status = bench.run(name, LOCAL)
        said = bench.log(name).read_text()
        assert status == 2, said
        assert "make room" in said, said
        assert "Traceback" not in said, said
        ballast.unlink()
        return judged(bench, name, "disk full", 1, who="disk", start=start)
    finally:
        subprocess.run(["umount", str(place)], check=True)


def clock(bench: Bench, name: str, seed: int) -> Result:
    """Let the program's clock jump by up to a day, forward and back, at every look."""
    random, start = Random(seed), time.monotonic()

    def jumping() -> float:
        return 1.8e9 + random.uniform(-86_400, 86_400)

    spec = yaml_file.read(bench.spec)
    (bench.place / name).mkdir()
    with closing(SqlJournal(f"sqlite:///{bench.place / name / 'journal.db'}", jumping)) as journal:
        journal.begin(spec, experiment.codes(spec))
        experiment.run(spec, InProcess(bench.place / name / "trials"), journal, optuna_ask.ask)
        journal.end("done")
        times = [row.at for row in journal.rows(study=spec.name)]
        assert times == sorted(times), "time went back in the journal"
        lost, doubled, diverged = compare(bench.undisturbed, list(export_study(journal, spec.name)))
    seconds = time.monotonic() - start
    return Result(Case("clock steps", 1, who="clock"), 1, lost, doubled, diverged, seconds)


def two_drivers(bench: Bench, name: str) -> Result:
    """Give the command twice at once: one plays, the other is refused, in words."""
    start = time.monotonic()
    with bench.start(name, LOCAL) as one, bench.start(name, LOCAL) as other:
        codes = sorted([one.wait(120), other.wait(120)])
    said = bench.log(name).read_text()
    assert codes in ([0, 2], [0, 0]), said  # [0, 0]: one was over before the other looked
    assert codes == [0, 0] or "must have one driver" in said, said
    return judged(bench, name, "two drivers", 1, start=start)


def taken_for_dead(bench: Bench, name: str) -> Result:
    """Freeze a driver, let another one take over, and wake the first: it must write no more."""
    start = time.monotonic()
    with bench.start(name, LOCAL) as frozen:
        _until(lambda: _began(bench, name), 60)
        _freeze(frozen, bench.place / name / "journal.db")
        with bench.start(name, LOCAL) as other:
            assert other.wait(120) == 0, bench.log(name).read_text()
        frozen.send_signal(signal.SIGCONT)
        assert frozen.wait(60) == 2, bench.log(name).read_text()
    assert "another one has taken over" in bench.log(name).read_text()
    return judged(bench, name, "taken for dead", 1, start=start)


def _freeze(driver: "subprocess.Popen[bytes]", path: Path) -> None:
    """Stop *driver* where it does not hold the file's lock: who does is waited for in vain."""
    while True:
        driver.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
                other.execute("ROLLBACK")
            except sqlite3.OperationalError:
                driver.send_signal(signal.SIGCONT)
                time.sleep(0.05)
            else:
                return


def node(bench: Bench, name: str, after: float) -> Result:
    """Kill the raylet of a node of a cluster, with all that plays there."""
    from ray.cluster_utils import Cluster

    start = time.monotonic()
    os.environ.update(bench.environment, RAY_USAGE_STATS_ENABLED="0")
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        lost = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        bench.environment["RAY_ADDRESS"] = cluster.address
        child = bench.start(name, ("--mlflow", "none"))
        with child:
            _until(lambda: _began(bench, name), 90)
            time.sleep(after)
            assert child.poll() is None, "it was over before the node was killed"
            cluster.remove_node(lost, allow_graceful=False)
            assert child.wait(200) == 0, bench.log(name).read_text()
        return judged(
            bench,
            name,
            "any moment",
            1,
            who="raylet of a node",
            words=("--mlflow", "none"),
            start=start,
        )
    finally:
        bench.environment.pop("RAY_ADDRESS", None)
        cluster.shutdown()


def mlflow(bench: Bench, name: str, port: int, after: float) -> Result:
    """Kill MLflow's server in the middle, and start it again for the next run."""
    start = time.monotonic()
    words = ("--local", "--mlflow", f"http://127.0.0.1:{port}")
    server = serve_mlflow(bench.place / f"{name}-mlflow", port)
    with bench.start(name, words) as child:
        _until(lambda: _began(bench, name), 60)
        time.sleep(after)
        assert child.poll() is None, "it was over before MLflow was killed"
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        assert child.wait(150) == 0, bench.log(name).read_text()
    assert "MLflow is behind" in bench.log(name).read_text()
    server = serve_mlflow(bench.place / f"{name}-mlflow", port)
    try:
        return judged(bench, name, "any moment", 1, who="MLflow's server", words=words, start=start)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def serve_mlflow(place: Path, port: int) -> "subprocess.Popen[bytes]":
    """Start a server, in a group of its own, and wait until it answers."""
    import socket

    place.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{place}/mlflow.db", "--workers", "1"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (place / "log").open("ab") as log:
        server = subprocess.Popen(
            command,
            cwd=place,
            stdout=log,
            stderr=log,
            env=os.environ | quiet,
            start_new_session=True,
        )

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    _until(answers, 90)
    return server


def _began(bench: Bench, name: str) -> bool:
    """Say whether the study has its first report."""
    path = bench.place / name / "journal.db"
    if not path.exists():
        return False
    with closing(SqlJournal(f"sqlite:///{path}")) as journal:
        return bool(journal.names() and journal.standings(journal.names()[0]))


def _until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)
