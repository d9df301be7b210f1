"""Measure the journal: how fast it takes reports in, and how soon a large study goes on.

    python experiments/benchmarks/journal.py [--url URL] [--trials 10000] [--out DIR]

Appending: reports of one trial in transactions of several sizes; five rounds of each size in
turn, and the median. Taking up: a study of so many trials with 100 reports each, all but the
last generation of its search finished, is opened again; the clock stops when the first bundle
is handed out, before Ray or anything else would start. In a process of its own each time.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from rigorl import experiment, plan
from rigorl.outside import optuna_ask
from rigorl.outside.journal import SqlJournal
from rigorl.plan import Agenda
from rigorl.search import Outcome
from rigorl.searches import Search
from rigorl.spec import Experiment
from rigorl.trial import Event, Report, Score, Trial

SIZES = (1, 10, 100, 1000)
ROUNDS = 5
RUNGS = 100
SEEDS = 10


def study(trials: int, *, more: int = 0) -> Experiment:
    """Return a study: a tenth are final exams, the others a search's, with *more* candidates."""
    exams = trials // 10
    search = {
        "candidates": (trials - exams) // SEEDS + more,
        "generation": 10,
        "space": {"lr": {"kind": "real", "low": 1e-5, "high": 1e-2, "log": True}},
        "prune": {},
    }
    return msgspec.convert(
        {
            "name": "large",
            "question": "How soon does a large study go on?",
            "arms": {
                "still": {"agent": {"name": "uniform"}},
                "tuned": {"agent": {"name": "ppo"}, "search": search},
            },
            "tasks": [{"name": "pole", "env": "CartPole-v1"}],
            "budget": {"steps": 10 * RUNGS, "exam_every": 10, "exam_episodes": 5},
            "seeds": {
                "tune": [1_000_000 + i for i in range(SEEDS)],
                "test": list(range(exams // 2)),
            },
        },
        Experiment,
    )


def reports(trial: Trial, first: int, n: int) -> list[Report]:
    """Return *n* reports such as PPO makes: three metrics, an exam of five episodes."""
    return [
        Report(
            trial=trial.id,
            stage=0,
            step=10 * i + 10,
            update=i,
            rung=i,
            stage_ended=i == RUNGS - 1,
            finished=i == RUNGS - 1,
            metrics={"loss": 0.1 * i, "approx_kl": 0.01, "entropy": 0.5},
            scores=(Score("pole", "ppo", ((float(trial.seed % 7 + i),),) * 5),),
        )
        for i in range(first, first + n)
    ]


class Filler:
    """A cluster that plays nothing, and says that all went as one would think."""

    def play(self, agenda: Agenda, record: Any) -> None:
        while (bundle := agenda.take()) is not None:
            for trial in bundle.trials:
                record([trial], reports(trial, 0, RUNGS))
            agenda.settle(bundle)


class First(Exception):  # noqa: N818
    """The first bundle is there."""


class Stopwatch:
    """A cluster that ends when there is something to play."""

    def play(self, agenda: Agenda, record: Any) -> None:
        del record
        if agenda.take() is not None:
            raise First


def _ask(how: Search, number: int, told: Sequence[Outcome]) -> dict[str, float]:
    del how, told
    return {"lr": 1e-4 * (1 + number)}


def appending(url: str) -> dict[int, list[float]]:
    """Return reports a second for each size of a transaction, once a round."""
    (trial,) = plan.trials(study(100), "still", "test", {}, [0])
    journal = SqlJournal(url)
    rates: dict[int, list[float]] = {size: [] for size in SIZES}
    first = 0
    for _ in range(ROUNDS):
        for size in SIZES:
            n = max(20 * size, 200)
            told: Sequence[Event] = reports(trial, first, n)
            first += n
            start = time.perf_counter()
            for at in range(0, n, size):
                journal.record([trial], told[at : at + size])
            rates[size].append(n / (time.perf_counter() - start))
    journal.close()
    return rates


def fill(url: str, trials: int) -> float:
    """Play nothing, record everything; return the seconds."""
    spec = study(trials)
    journal = SqlJournal(url)
    journal.begin(spec, experiment.codes(spec))
    start = time.perf_counter()
    experiment.run(spec, Filler(), journal, _ask)
    seconds = time.perf_counter() - start
    journal.close()
    return seconds


def take_up(url: str, trials: int) -> float:
    """Return the seconds until the first bundle of a study with ten candidates more."""
    start = time.perf_counter()
    spec = study(trials, more=10)
    journal = SqlJournal(url)
    journal.begin(spec, experiment.codes(spec))
    try:
        experiment.run(spec, Stopwatch(), journal, optuna_ask.ask)
    except First:
        return time.perf_counter() - start
    finally:
        journal.close()
    raise AssertionError("there was nothing to play")


def page(rates: dict[int, list[float]], filled: float, taken: list[float], args: Any) -> str:
    database = "PostgreSQL" if args.url.startswith("postgres") else "SQLite"
    about = (
        f"`python experiments/benchmarks/journal.py --trials {args.trials}` on {machine()}, "
        f"{database}. Reports of three metrics and five episodes."
    )
    resumed = (
        f"A study of {args.trials:,} trials and {args.trials * RUNGS:,} reports was recorded in "
        f"{filled:.0f} s ({args.trials * RUNGS / filled:,.0f} reports/s, what a search works out "
        f"included), and taken up again, to its first bundle, in "
        f"{statistics.median(taken):.1f} s (median of {len(taken)}; {min(taken):.1f} to "
        f"{max(taken):.1f} s; imports not counted)."
    )
    lines = [
        "# The journal",
        "",
        about,
        "",
        "| reports in a transaction | reports/s, median | least | most |",
        "|---|---|---|---|",
        *(
            f"| {size} | {statistics.median(r):,.0f} | {min(r):,.0f} | {max(r):,.0f} |"
            for size, r in rates.items()
        ),
        "",
        resumed,
    ]
    return "\n".join(lines) + "\n"


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else platform.machine()}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="", help="of an empty database; a new SQLite file")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--take-up", metavar="URL", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.take_up:
        print(take_up(args.take_up, args.trials))
        return
    with tempfile.TemporaryDirectory() as folder:
        url = args.url or f"sqlite:///{folder}/journal.db"
        rates = appending(args.url or f"sqlite:///{folder}/appending.db")
        filled = fill(url, args.trials)
        again = [sys.executable, __file__, "--trials", str(args.trials), "--take-up", url]
        taken = [
            float(subprocess.run(again, stdout=subprocess.PIPE, check=True).stdout)
            for _ in range(ROUNDS)
        ]
    text = page(rates, filled, taken, args)
    name = "journal_postgres.md" if args.url.startswith("postgres") else "journal.md"
    (args.out / name).write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
