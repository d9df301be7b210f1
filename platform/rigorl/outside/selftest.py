"""Kill a small study again and again, give the same command again, and compare.

An undisturbed run and one that was killed at a named point (`rigorl.crash`) must be the same
text in the end (`rigorl export`). This is what `rigorl selftest` does for a user, and what
`tests/crash` does at length.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rigorl import crash

SPEC = """
name: selftest
question: Does this installation lose anything when it is killed?
arms:
  plain: {agent: &agent {name: ppo, config: {n_steps: 16, epochs: 2, hidden: [8]}}}
  tuned:
    agent: *agent
    search:
      candidates: 4
      generation: 2
      prune: {grace: 0.1}
      space: {lr: {kind: real, low: 1e-4, high: 1e-2, log: true}}
tasks:
  - {name: earth, env: CartPole-v1}
  - {name: jupiter, env: CartPole-v1, physics: {gravity: 24.8}}
budget:
  {steps: 256, exam_every: 64, exam_episodes: 2, num_envs: 4, dense: [1, 4], checkpoint_every: 128}
seeds: {tune: [10, 11], test: [0, 1]}
"""
NOT_FOR_IT = (crash.VARIABLE, "RIGORL_JOURNAL", "RIGORL_STORAGE")
"""What the environment says that would bring its studies together, and among a user's own."""
PLAYED = ("checkpoint.", "roll_back.")
"""Points, by how they begin, that whoever plays passes."""
PATIENCE = 300.0
"""Seconds that one run of the small study may take, at most."""


class Case(NamedTuple):
    """Die the n-th time that *point* is passed, up to *faults* times in a row."""

    point: str
    n: int
    faults: int = 1
    words: tuple[str, ...] = ("--local", "--mlflow", "none")
    """Of the command line: where it is played, and what is shown."""
    who: str = ""
    """Who dies, if it is not for the point to say."""

    @property
    def victim(self) -> str:
        """Who dies: on Ray the worker plays, the driver remembers."""
        if self.who:
            return self.who
        played = self.point in ("exam", "learn") or self.point.startswith(PLAYED)
        return "worker" if played and "--local" not in self.words else "driver"


class Result(NamedTuple):
    """What became of a study that was disturbed, against one that was not, in lines of text."""

    case: Case
    faults: int
    """How often it died; fewer than asked for, if it was over before."""
    lost: int
    doubled: int
    diverged: int
    seconds: float

    @property
    def ok(self) -> bool:
        return self.faults > 0 and not self.lost + self.doubled + self.diverged


RAY = ("--mlflow", "none")
SHORT = (
    Case("journal.before_commit", 9, 2),
    Case("journal.after_commit", 20),
    Case("checkpoint.write", 3),
    Case("checkpoint.before_rename", 5),
    Case("checkpoint.after_rename", 3, 2),
    Case("exam", 33),
    Case("learn", 51),
    Case("search.tell", 2),
    Case("verdict", 1),
    Case("mirror.flush", 2, 1, ("--local",)),
    Case("checkpoint.before_rename", 3, 1, RAY),
    Case("journal.after_commit", 20, 1, RAY),
)
"""What a user has three minutes for."""


class Bench:
    """A small study, what an undisturbed run of it is as text, and room to disturb others."""

    def __init__(
        self, place: Path, spec: str = SPEC, environment: Mapping[str, str] | None = None
    ) -> None:
        self.place, self.environment = place, dict(environment or {})
        self.spec = place / "study.yaml"
        self.spec.write_text(spec)
        self.undisturbed = self.whole("undisturbed")

    def whole(self, name: str, words: Sequence[str] = ("--local", "--mlflow", "none")) -> list[str]:
        """Return what an undisturbed run under *name* exports."""
        status = self.run(name, words)
        if status != 0:
            raise RuntimeError(f"an undisturbed run must succeed, but see {self.log(name)}")
        return self.export(name)

    def disturb(self, name: str, case: Case) -> Result:
        """Let a study die as *case* says, finish it, and compare."""
        start, faults = time.monotonic(), 0
        for _ in range(case.faults):
            scar = self.place / f"{name}.{faults}.scar"
            status = self.run(name, case.words, f"{case.point}:{case.n}:{scar}")
            faults += scar.exists()
            if status != -signal.SIGKILL:
                break
        status = self.run(name, case.words)
        lost, doubled, diverged = compare(self.undisturbed, self.export(name))
        diverged += status != 0
        return Result(case, faults, lost, doubled, diverged, time.monotonic() - start)

    def run(self, name: str, words: Sequence[str], order: str = "") -> int:
        """Give the command once, to die as *order* says; return its exit code."""
        with self.start(name, words, order) as child:
            try:
                return child.wait(PATIENCE)
            finally:
                child.kill()

    def start(self, name: str, words: Sequence[str], order: str = "") -> "subprocess.Popen[bytes]":
        """Give the command, and do not wait for it."""
        command = [sys.executable, "-m", "rigorl", "run", str(self.spec), *words]
        command += ["--home", str(self.place / name)]
        with self.log(name).open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                command, stdout=log, stderr=log, env=self._environment(order)
            )

    def export(self, name: str, words: Sequence[str] = ()) -> list[str]:
        command = [sys.executable, "-m", "rigorl", "export", str(self.spec), *words]
        command += ["--home", str(self.place / name)]
        done = subprocess.run(  # noqa: S603
            command, stdout=subprocess.PIPE, text=True, check=True, env=self._environment("")
        )
        return done.stdout.splitlines()

    def log(self, name: str) -> Path:
        """Return where the runs under *name* say what they say."""
        return self.place / f"{name}.log"

    def _environment(self, order: str) -> dict[str, str]:
        ours = {crash.VARIABLE: order} if order else {}
        kept = {key: value for key, value in os.environ.items() if key not in NOT_FOR_IT}
        return kept | self.environment | ours


def compare(undisturbed: Sequence[str], disturbed: Sequence[str]) -> tuple[int, int, int]:
    """Return how many lines were lost, doubled or not asked for, and changed."""
    expected, found = _by_key(undisturbed), _by_key(disturbed)
    twice = sum(n - 1 for n in Counter(disturbed).values())
    lost = len(expected.keys() - found.keys())
    more = len(found.keys() - expected.keys())
    changed = sum(expected[key] != found[key] for key in expected.keys() & found.keys())
    return lost, twice + more, changed


def _by_key(lines: Sequence[str]) -> dict[str, str]:
    """Return each line by what it is about."""
    found = {}
    for line in lines:
        ((kind, value),) = json.loads(line).items()
        names = ("trial", "stage", "step", "update", "search", "number", "seed", "arm", "phase")
        about = value.get("trial") if kind == "trial" else value
        known = [about.get(name) for name in names] if isinstance(about, dict) else []
        agent = about.get("agent") if kind == "trial" else None
        found[json.dumps([kind, known, agent])] = line
    return found


def selftest(cases: Sequence[Case] = SHORT) -> Iterator[Result]:
    """Yield what becomes of each of *cases*, in a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="rigorl-selftest-") as folder:
        bench = Bench(Path(folder))
        for i, case in enumerate(cases):
            yield bench.disturb(f"case-{i}", case)
