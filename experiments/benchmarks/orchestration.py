"""Compare what it costs to play trials: ours, bare tasks of Ray, Ray Tune; and what keeps up.

    PYTHONPATH=experiments python experiments/benchmarks/orchestration.py [--trials 1000]
        [--tune-trials 200] [--reports 20000] [--rounds 3] [--out DIR]

Trials sleep for a second, twenty at a time on two CPUs. Players take turns, a process each, so a
busy moment of the machine meets them all; figures are medians over rounds, ratios those of one
round. The exit code says if the bars are met.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
AT_ONCE = 20
SECONDS = 1.0
OVERHEAD = 0.05
"""Of the time of bare tasks, ours may take so much more."""
RATE = 1_000
"""Reports a second, at least."""
SUBMITS = 3
FIRST_STEP = 15.0
"""Seconds from `rigorl submit` to the first step on a cluster that is warm, at most."""
Result = dict[str, float]


def play(who: str, number: int) -> Result:
    command = [sys.executable, str(HERE / "play_trials.py"), who, str(number)]
    ours = [str(HERE.parent), str(HERE.parents[1] / "tests")]
    paths = os.pathsep.join([*ours, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )
    result: Result = json.loads(done.stdout.splitlines()[-1])
    print(who, number, result, file=sys.stderr, flush=True)
    return result


def measure(args: argparse.Namespace) -> list[dict[str, Result]]:
    """Return the results of each round, by player."""
    asked = {
        "ours": args.trials,
        "bare": args.trials,
        "tune": args.tune_trials,
        "cold": args.tune_trials,
        "reports": args.reports,
        "mirror": args.reports,
        "submit": SUBMITS,
    }
    return [{who: play(who, number) for who, number in asked.items()} for _ in range(args.rounds)]


def row(name: str, values: Sequence[float], form: str) -> str:
    cells = [statistics.median(values), min(values), max(values)]
    return f"| {name} | {' | '.join(format(cell, form) for cell in cells)} |"


def page(rounds: Sequence[dict[str, Result]], args: argparse.Namespace) -> str:
    """Return the results in Markdown."""
    floor = SECONDS / AT_ONCE

    def per_trial(who: str, trials: int) -> list[float]:
        return [(one[who]["seconds"] / trials - floor) * 1000 for one in rounds]

    over = [100 * (one["ours"]["seconds"] / one["bare"]["seconds"] - 1) for one in rounds]
    tunes = [one["cold"]["seconds"] / one["tune"]["seconds"] for one in rounds]
    head = ["median", "least", "most"]
    table = [
        f"| | {' | '.join(head)} |",
        f"|{'---|' * (1 + len(head))}",
        row("ours, s", [one["ours"]["seconds"] for one in rounds], ".2f"),
        row("bare tasks, s", [one["bare"]["seconds"] for one in rounds], ".2f"),
        row(f"ours over bare, % (bar: {100 * OVERHEAD:.0f})", over, ".1f"),
        row("ours, ms a trial beyond the sleep", per_trial("ours", args.trials), ".1f"),
        row("bare tasks, ms", per_trial("bare", args.trials), ".1f"),
        row("Tune, ms, actors started", per_trial("tune", args.tune_trials), ".1f"),
        row("ours, ms, actors started", per_trial("cold", args.tune_trials), ".1f"),
        row("ours over Tune, time, actors started", tunes, ".2f"),
        row(f"reports/s (bar: {RATE:,})", [one["reports"]["rate"] for one in rounds], ",.0f"),
        row("reports/s, MLflow shown them", [one["mirror"]["rate"] for one in rounds], ",.0f"),
        row(
            "rows MLflow is behind at the end", [one["mirror"]["behind"] for one in rounds], ",.0f"
        ),
        row("seconds of waiting for it", [one["mirror"]["seconds"] for one in rounds], ".1f"),
        row("rows it is behind then", [one["mirror"]["left"] for one in rounds], ",.0f"),
        row(
            f"seconds from submit to the first report (bar: {FIRST_STEP:.0f})",
            [one["submit"]["seconds"] for one in rounds],
            ".1f",
        ),
    ]
    about = (
        f"{args.trials:,} trials that sleep for a second ({args.tune_trials:,} where actors are "
        f"started), {AT_ONCE} at a time on two CPUs; {len(rounds)} rounds. A trial of ours opens "
        "its world, is examined, writes a checkpoint and its policies, and is recorded in SQLite. "
        "Ours and bare tasks find their processes warm. Reports are those of four trials that do "
        "nothing but take exams, through driver and journal. What is submitted is PPO, which "
        "reports after eight steps and an update, to a Ray of this machine that has played one "
        "study before."
    )
    made_with = (
        f"{os.cpu_count()} cores, load {os.getloadavg()[2]:.1f} over the last 15 minutes, Python "
        f"{platform.python_version()}, Ray {version('ray')}, MLflow {version('mlflow')}."
    )
    command = f"`{shlex.join(['python', *sys.argv])}`"
    return "\n".join(["# Orchestration", "", about, "", *table, "", command, "", made_with, ""])


def met(rounds: Sequence[dict[str, Result]]) -> bool:
    over = statistics.median(one["ours"]["seconds"] / one["bare"]["seconds"] for one in rounds)
    rate = statistics.median(one["reports"]["rate"] for one in rounds)
    first = statistics.median(one["submit"]["seconds"] for one in rounds)
    return over <= 1 + OVERHEAD and rate >= RATE and first <= FIRST_STEP


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--tune-trials", type=int, default=200)
    parser.add_argument("--reports", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    rounds = measure(args)
    text = page(rounds, args)
    (args.out / "orchestration.md").write_text(text)
    print(text, end="")
    return 0 if met(rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
