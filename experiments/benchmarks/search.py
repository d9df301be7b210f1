"""Compare what searches cost: ours, Ray Tune with OptunaSearch, Optuna; and what a question costs.

    PYTHONPATH=experiments python experiments/benchmarks/search.py [--seconds 0.2 1]
        [--candidates 300] [--told 100 300 1000] [--workers 4] [--rounds 3] [--out DIR]

Candidates sleep; those that sleep for so many seconds are fewer the longer they sleep, down to
`--fewest`. Players take turns, a process each, so a busy moment of the machine meets them all. The
exit code says if the bars are met.
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
PLAYERS = {
    "ours": "ours",
    "tune": "Ray Tune, OptunaSearch",
    "threads": "Optuna, `n_jobs`",
    "processes": "Optuna, processes of joblib",
}
START = 0.35
"""Seconds between two candidates on one worker, at most."""
SHARE = 5.0
"""Of the time of candidates of `LONG` seconds, questions may take so many per cent."""
LONG = 5.0
Result = dict[str, float]
Round = dict[str, Result]


def play(*words: str) -> Result:
    command = [sys.executable, str(HERE / "play_search.py"), *words]
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
    print(*words, result, file=sys.stderr, flush=True)
    return result


def candidates(args: argparse.Namespace, seconds: float) -> int:
    """Return how many are tried: as many as take the time of all that are the shortest."""
    return max(args.fewest, round(args.candidates * min(args.seconds) / seconds))


def measure(args: argparse.Namespace) -> list[Round]:
    """Return the results of each round, by player and seconds, and by how many were told."""
    rounds: list[Round] = []
    for _ in range(args.rounds):
        one = {
            f"{who} {seconds:g}": play(
                who, str(candidates(args, seconds)), str(seconds), str(args.workers)
            )
            for seconds in args.seconds
            for who in PLAYERS
        }
        rounds.append(one | {f"ask {told}": play("ask", str(told)) for told in args.told})
    return rounds


def row(name: str, values: Sequence[float], form: str) -> str:
    cells = [statistics.median(values), min(values), max(values)]
    return f"| {name} | {' | '.join(format(cell, form) for cell in cells)} |"


def share(milliseconds: float, workers: int) -> float:
    """Return the per cent of a search's time in which nothing but questions is worked at.

    One process asks, for all workers: in `LONG` seconds it is asked by each of them.
    """
    return 100 * workers * milliseconds / 1000 / LONG


def page(rounds: Sequence[Round], args: argparse.Namespace) -> str:
    """Return the results in Markdown."""

    def of(what: str, name: str) -> list[float]:
        return [one[what][name] for one in rounds]

    head = ["| | median | least | most |", "|---|---|---|---|"]
    parts = ["# Search", "", about(args), ""]
    for seconds in args.seconds:
        number = candidates(args, seconds)
        ideal = 3600 * args.workers / seconds
        parts += [
            f"## {number} candidates of {seconds:g} s: at most {ideal:,.0f} an hour",
            "",
            *head,
        ]
        for who, name in PLAYERS.items():
            what = f"{who} {seconds:g}"
            parts += [
                row(f"{name}: candidates/hour, from the start", of(what, "an_hour"), ",.0f"),
                row(f"{name}: once it is warm", of(what, "steady"), ",.0f"),
                row(f"{name}: workers that played", of(what, "workers"), ".0f"),
                row(f"{name}: s from one to the next", of(what, "gap"), ".3f"),
                row(f"{name}: s, at the 95th percentile", of(what, "gap_95"), ".3f"),
            ]
        parts += [
            row(f"ours / {PLAYERS[who]}, from the start", ratios(rounds, who, seconds), ".2f")
            for who in list(PLAYERS)[1:]
        ]
        parts.append("")
    parts += ["## To ask and to tell", "", *head]
    for told in args.told:
        what = f"ask {told}"
        busy = [share(ms, args.workers) for ms in of(what, "ours")]
        parts += [
            row(f"{told:,} told: ours, ms a candidate", of(what, "ours"), ".1f"),
            row(f"{told:,} told: Optuna through SQLite, ms", of(what, "optuna"), ".1f"),
            row(f"{told:,} told: ours, % of {LONG:g} s candidates (bar: {SHARE:g})", busy, ".2f"),
            row(f"{told:,} told: ours, the first question of a run, ms", of(what, "again"), ".1f"),
        ]
    made_with = (
        f"{os.cpu_count()} cores, load {os.getloadavg()[2]:.1f} over the last 15 minutes, Python "
        f"{platform.python_version()}, Ray {version('ray')}, Optuna {version('optuna')}."
    )
    command = f"`{shlex.join(['python', *sys.argv])}`"
    return "\n".join([*parts, "", command, "", made_with, ""])


def ratios(rounds: Sequence[Round], who: str, seconds: float) -> list[float]:
    return [
        one[f"ours {seconds:g}"]["an_hour"] / one[f"{who} {seconds:g}"]["an_hour"] for one in rounds
    ]


def about(args: argparse.Namespace) -> str:
    return (
        f"A hill of eleven settings; a candidate sleeps. {args.workers} workers, TPE, "
        f"multivariate, {len(args.seconds)} lengths, {args.rounds} rounds; ratios are those of one "
        "round. From the start: once Ray is there, until the last candidate ends, so the start of "
        "workers is in it. From one to the next (bar: "
        f"{START:g} s): from the last step of a candidate to the first of the next in one process. "
        "Of ours it holds an exam, a checkpoint, its policies, the journal (SQLite), and the wait "
        "for its generation. Optuna's threads share a study in memory; its "
        "processes share one through SQLite."
    )


def met(rounds: Sequence[Round], args: argparse.Namespace) -> bool:
    gaps = [
        statistics.median(one[f"ours {seconds:g}"]["gap"] for one in rounds)
        for seconds in args.seconds
    ]
    asked = statistics.median(one[f"ask {max(args.told)}"]["ours"] for one in rounds)
    return max(gaps) <= START and share(asked, args.workers) <= SHARE


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.2, 1.0])
    parser.add_argument("--candidates", type=int, default=300)
    parser.add_argument("--fewest", type=int, default=60)
    parser.add_argument("--told", type=int, nargs="+", default=[100, 300, 1_000])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    rounds = measure(args)
    text = page(rounds, args)
    (args.out / "search.md").write_text(text)
    print(text, end="")
    return 0 if met(rounds, args) else 1


if __name__ == "__main__":
    sys.exit(main())
