"""Compare our SAC with Stable-Baselines3's under the same settings, in speed and in score.

    python experiments/benchmarks/sac_vs_sb3.py [--repeats 5] [--threads 1 2] [--seeds 3]

Speed: ours and theirs in turn, a process each, with each number of torch threads; medians over
repeats, and each at its best number. What else the machine does weighs on the wall's clock, and
most on two threads that wait for each other: ask for two on idle cores only. A second in which
the process had its core knows less of it, and says nothing of two threads. Curves: both on one
thread, *jobs* at a time. Every result is appended to `sac_vs_sb3.jsonl` as it comes; what is there
already is not played again. Then `sac_vs_sb3.md` is written.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ppo_vs_sb3 import machine

HERE = Path(__file__).parent
SPEED_ENVS = ("Hopper-v5", "HalfCheetah-v5")
CURVES = {"Pendulum-v1": (4_000, 500), "Hopper-v5": (10_000, 2_500)}
"""Steps, and how often the policy is examined."""
LEAST_RATIO = 2.0
PACKAGES = ("stable-baselines3", "torch", "gymnasium", "mujoco", "numpy")
Results = dict["Order", dict[str, Any]]


class Order(NamedTuple):
    """One run to be played."""

    kind: str
    who: str
    env: str
    seed: int
    steps: int
    threads: int
    every: int


def play(order: Order) -> dict[str, Any]:
    """Play *order* in a process of its own."""
    words = (order.who, order.env, order.seed, order.steps, order.threads, order.every)
    command = [sys.executable, str(HERE / "play_sac.py"), *map(str, words)]
    threads = {f"{lib}_NUM_THREADS": str(order.threads) for lib in ("OMP", "OPENBLAS", "MKL")}
    done = subprocess.run(
        command, env={**os.environ, **threads}, stdout=subprocess.PIPE, text=True, check=True
    )
    return {**order._asdict(), **json.loads(done.stdout.splitlines()[-1])}


def recall(path: Path) -> Results:
    """Return the results in *path* by their orders."""
    lines = path.read_text().splitlines() if path.exists() else []
    results = [json.loads(line) for line in lines]
    return {Order(*(result[field] for field in Order._fields)): result for result in results}


def play_all(orders: Iterable[Order], path: Path, jobs: int) -> None:
    """Append the results of *orders* to *path*, each as soon as it is there."""
    writing = threading.Lock()

    def play_one(order: Order) -> None:
        result = play(order)
        with writing, path.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(*order, f"{result['rate']:.0f} steps/s", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(play_one, orders))


def speed(results: Results, who: str, env: str, threads: int, by: str) -> float:
    """Return the median steps a second."""
    return float(
        np.median(
            [
                result[by]
                for order, result in results.items()
                if order[:3] == ("speed", who, env) and order.threads == threads
            ]
        )
    )


def speed_rows(results: Results, env: str, threads: Sequence[int]) -> tuple[list[str], float]:
    """Return a line for each of *threads*, and how many times as fast ours is, both at best."""
    rows, best = [], [0.0, 0.0]
    for n in threads:
        cells = [env, str(n)]
        for by in ("rate", "cpu_rate"):
            ours, theirs = (speed(results, who, env, n, by) for who in ("ours", "sb3"))
            cells += [f"{ours:.0f}", f"{theirs:.0f}", f"{ours / theirs:.2f}"]
            if by == "rate":
                best = [max(best[0], ours), max(best[1], theirs)]
        rows.append(f"| {' | '.join(cells)} |")
    return rows, best[0] / best[1]


def curve_rows(results: Results, env: str) -> list[str]:
    """Return a line for each exam: the mean over seeds of the mean return, and each seed's."""
    found = {
        who: [r["curve"] for o, r in results.items() if o[:3] == ("curve", who, env)]
        for who in ("ours", "sb3")
    }
    rows = []
    for i, (step, _) in enumerate(found["ours"][0]):
        cells = [env, f"{step:,}"]
        for curves in found.values():
            scores = [float(np.mean(curve[i][1])) for curve in curves]
            cells += [f"{np.mean(scores):.0f}", ", ".join(f"{score:.0f}" for score in scores)]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def table(head: Sequence[str], rows: Iterable[str]) -> list[str]:
    return [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *rows]


def page(results: Results, threads: Sequence[int]) -> str:
    """Return the summary in Markdown."""
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    steps = next(order.steps for order in results if order.kind == "speed")
    repeats = 1 + max(order.seed for order in results if order.kind == "speed")
    seeds = 1 + max(order.seed for order in results if order.kind == "curve")
    curves = [row for env in CURVES for row in curve_rows(results, env)]
    about = (
        "Environment steps a second with an update each, batch 256, 256-256 ReLU networks, one "
        f"environment: medians of {repeats} runs of {steps:,} steps, played in turn. Settings in "
        "`play_sac.py`. CPU: steps in a second in which the process had a core. The bar: both at "
        f"their best number of threads, ours is at least {LEAST_RATIO:.0f} times as fast."
    )
    head = ("task", "threads", "ours", "SB3", "ratio", "ours, CPU", "SB3, CPU", "ratio")
    lines = [
        "# Our SAC and Stable-Baselines3's",
        "",
        about,
        "",
        *table(head, (row for env in SPEED_ENVS for row in speed_rows(results, env, threads)[0])),
        "",
        f"Scores: the mean return of ten episodes of the deterministic policy, {seeds} seeds.",
        "",
        *table(("task", "step", "ours", "by seed", "SB3", "by seed"), curves),
        "",
        f"Machine: {machine()}. Python {platform.python_version()}, {packages}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--speed-steps", type=int, default=2_000)
    parser.add_argument("--threads", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--seeds", type=int, default=3, help="of the curves, from 0 on")
    parser.add_argument("--jobs", type=int, default=2, help="curves at a time, one core each")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "sac_vs_sb3.jsonl"
    fast = [
        Order("speed", who, env, seed, args.speed_steps, threads, 0)
        for seed, env, threads, who in product(
            range(args.repeats), SPEED_ENVS, args.threads, ("ours", "sb3")
        )
    ]
    curve = [
        Order("curve", who, env, seed, CURVES[env][0], 1, CURVES[env][1])
        for seed, env, who in product(range(args.seeds), CURVES, ("ours", "sb3"))
    ]
    for orders, jobs in ((fast, 1), (curve, args.jobs)):
        done = recall(path)
        play_all([order for order in orders if order not in done], path, jobs)
    done = recall(path)
    results = {order: done[order] for order in fast + curve}
    text = page(results, args.threads)
    (args.out / "sac_vs_sb3.md").write_text(text)
    print(text, end="")
    ratios = [speed_rows(results, env, args.threads)[1] for env in SPEED_ENVS]
    return 0 if min(ratios) >= LEAST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
