"""Does training wait for MLflow? A study is played while MLflow's server is there, or killed.

    python experiments/benchmarks/mlflow_away.py [--away 3] [--pairs 5] [--out results]

One small study (PPO on a cart-pole, examined often) is played in this process, mirrored to a
real server on its own SQLite. In turn: with the server there all the time, and with the server
killed soon after the start, away for `--away` seconds, and started again. Starting a server
costs a core for seconds; so that both kinds of run pay for it, a second server is started at
the same moment where the first one stays. A study is as long as it takes for all of this.

The rate is environment steps a second, exams included, from the first to the last report of
the journal; beside it stands what the training thread made of each second that it computed,
which busy neighbours disturb less. After each run every point of the journal must be in
MLflow's store: in order, and none twice. `--away 600 --pairs 1` is the case of ten minutes (22
minutes in all).
"""

import argparse
import os
import platform
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from rigorl import experiment
from rigorl.analysis.curves import Curve
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess
from rigorl.outside.journal import Row, SqlJournal, at_home
from rigorl.outside.mlflow_mirror import Mirror
from rigorl.spec import Experiment

HERE = Path(__file__).parent
LEAD, TAIL = 1.5, 5.0
"""Seconds before the server is killed, and at least after it is started again."""
TASTE = 16_384
"""Steps by which the rate is guessed, and with it how many steps a study needs."""
ROLLOUT = 512
SPEC: dict[str, Any] = {
    "question": "Does a study that MLflow cannot follow run as fast as one that it can?",
    "arms": {"ppo": {"agent": {"name": "ppo", "config": {"n_steps": ROLLOUT // 8}}}},
    "tasks": [{"name": "pole", "env": "CartPole-v1"}],
    "seeds": {"test": [0]},
}
BUDGET = {"num_envs": 8, "exam_every": ROLLOUT, "exam_episodes": 1, "exam_horizon": 50}


class Server:
    """MLflow's server on this machine only, as `rigorl ui` starts it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.store = folder / "mlflow.db"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.store}"]
        command += ["--default-artifact-root", (self.store.parent / "files").as_uri()]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **quiet, "DO_NOT_TRACK": "true"},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not self._answers():
            time.sleep(0.1)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class Result(NamedTuple):
    """What one run showed."""

    rate: float
    cpu_rate: float
    """Steps for each second that the training thread computed."""
    points: int
    behind: bool
    """MLflow could not be caught up with at the end of the run, but by the next one."""
    back: float
    """Seconds before the last report at which the server answered again; below 0: after it."""


def study(name: str, steps: int) -> Experiment:
    return msgspec.convert({"name": name, "budget": {"steps": steps, **BUDGET}, **SPEC}, Experiment)


def play(spec: Experiment, server: Server, other: Server, away: float | None, home: Path) -> Result:
    """Play *spec*; *away*: kill the server for so long, else leave it, and start another one."""
    started: list[float] = []

    def disturb() -> None:
        time.sleep(LEAD)
        if away is not None:
            server.kill()
        time.sleep(away or 0)
        (server if away is not None else other).start()
        started.append(time.time())

    with closing(at_home(home)) as journal:
        mirror = Mirror(server.url, None, journal, spec).start()
        disturbing = threading.Thread(target=disturb)
        disturbing.start()
        cpu = time.thread_time()
        experiment.run(spec, InProcess(home / "trials"), journal, optuna_ask.ask)
        cpu = time.thread_time() - cpu
        disturbing.join()
        mirror.finish("FINISHED", {})
        behind = mirror.trouble is not None
        if behind:
            again = Mirror(server.url, None, journal, spec).start()
            again.finish("FINISHED", {})
            if again.trouble:
                raise RuntimeError(f"the next run did not catch up: {again.trouble}")
        points = compare(spec.name, journal, server.store)
        other.kill()
        rows = journal.rows(study=spec.name)
    cpu_rate = spec.budget.steps / cpu
    return Result(rate(rows), cpu_rate, points, behind, rows[-1].at / 1000 - started[0])


def rate(rows: Sequence[Row]) -> float:
    """Return the steps a second between the first and the last of *rows*."""
    first, last = rows[0], rows[-1]
    return (last.report.step - first.report.step) / (last.at - first.at) * 1000


def compare(name: str, journal: SqlJournal, store: Path) -> int:
    """See that MLflow has every point of the journal, in order, none twice; return how many."""
    query = (
        "select m.key, m.step, m.value, m.timestamp from metrics m join tags t using (run_uuid) "
        "where t.key = 'trial' and t.value = ? order by m.timestamp, m.step"
    )
    compared = 0
    with closing(sqlite3.connect(store)) as db:
        for trial in journal.trials(name):
            rows = journal.rows({trial.id})
            curve = Curve.of(trial, [row.report for row in rows])
            expected: dict[str, list[tuple[int, float, int]]] = {}
            for n, row in enumerate(rows):
                values = {**row.report.metrics, "score/pole": float(curve.scores_TN[0, n])}
                for key, value in values.items():
                    expected.setdefault(key, []).append((row.report.step, value, row.at))
            found: dict[str, list[tuple[int, float, int]]] = {}
            for key, *point in db.execute(query, (trial.id,)):
                found.setdefault(key, []).append(tuple(point))
            for key, points in expected.items():
                if found[key] != points:
                    raise RuntimeError(f"{name}: {key} is not what the journal holds")
                compared += len(points)
    return compared


def page(pairs: Sequence[tuple[Result, Result]], away: float, command: str) -> str:
    """Return the results in Markdown."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("mlflow", "torch", "gymnasium"))
    head = ("", "there, steps/s", "away", "ratio", "there, steps/CPU s", "away", "ratio")
    numbers = np.array([(*ratio(a.rate, b.rate), *ratio(a.cpu_rate, b.cpu_rate)) for a, b in pairs])
    rows = [(f"pair {n}", *map(str, cells)) for n, cells in enumerate(map(_cells, numbers))]
    low, high = map(_cells, (numbers.min(axis=0), numbers.max(axis=0)))
    rows.append(("median", *_cells(np.median(numbers, axis=0))))
    rows.append(("spread", *(f"{a} to {b}" for a, b in zip(low, high, strict=True))))
    behind = sum(result.behind for _, result in pairs)
    about = (
        f"The server was back {min(b.back for _, b in pairs):.0f} to "
        f"{max(b.back for _, b in pairs):.0f} s before the last report. Every one of "
        f"{pairs[0][0].points:,} points of a journal (scores, and the agent's metrics) is in "
        "MLflow's store: in order, at the journal's time, and none twice. At the end of the run "
        f"itself in {len(pairs) - behind} of {len(pairs)} cases, else after the next one."
    )
    lines = [
        f"## Away for {away:g} s",
        "",
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        about,
        "",
        f"`{command}`",
        "",
        f"Machine: {machine()}. Python {platform.python_version()}, {packages}.",
    ]
    return "\n".join(lines) + "\n"


def ratio(there: float, away: float) -> tuple[float, float, float]:
    return there, away, away / there


def _cells(numbers: NDArray[np.float64]) -> list[str]:
    return [f"{number:.0f}" if number > 10 else f"{number:.2f}" for number in numbers]


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    load = f"load {os.getloadavg()[2]:.1f} over the last 15 minutes"
    return f"{os.cpu_count()} cores, {names[0] if names else platform.machine()}, {load}"


def measure(count: int, away: float, folder: Path) -> list[tuple[Result, Result]]:
    """Play *count* pairs of studies: MLflow there, and away for so many seconds."""
    server, other = Server(folder / "server"), Server(folder / "other")
    pairs = []
    try:
        server.start()
        other.start()  # makes its store, once
        other.kill()
        clock = time.monotonic()
        other.start()
        seconds = LEAD + away + (time.monotonic() - clock) + TAIL
        other.kill()
        with closing(at_home(folder / "taste")) as journal:
            experiment.run(study("taste", TASTE), InProcess(), journal, optuna_ask.ask)
            steps = int(rate(journal.rows(study="taste")) * seconds) // ROLLOUT * ROLLOUT
        for n in range(count):
            results = {}
            for kind in ("there", "away") if n % 2 == 0 else ("away", "there"):
                spec = study(f"{kind}-{n}", steps)
                gone = away if kind == "away" else None
                results[kind] = play(spec, server, other, gone, folder / spec.name)
                print(spec.name, results[kind], file=sys.stderr, flush=True)
            pairs.append((results["there"], results["away"]))
    finally:
        server.kill()
        other.kill()
    return pairs


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--away", type=float, default=2.0, help="seconds")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path, help="a file to append the table to")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        pairs = measure(args.pairs, args.away, Path(name))
    text = page(pairs, args.away, shlex.join(["python", *sys.argv]))
    print(text, end="")
    if args.out:
        before = args.out.read_text() if args.out.exists() else "# Studies while MLflow is away\n"
        args.out.write_text(f"{before}\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
