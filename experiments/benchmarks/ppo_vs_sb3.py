"""Compare our PPO with Stable-Baselines3's under the same settings, in score and in speed.

    python experiments/benchmarks/ppo_vs_sb3.py [--steps 300000] [--seeds 10] [--jobs 2]

Ours and theirs are played in turn, one process and one torch thread each. Every result is
appended to `ppo_vs_sb3.jsonl` as it comes; what is there already is not played again. Then
`ppo_vs_sb3.md` is written. A score is the mean return of 20 episodes, the same for both, of
the deterministic policy. The bar, on each task: our interquartile mean over seeds is at least
0.95 of theirs, and the lower end of the 95 % interval of (ours - theirs) / theirs is -25 % or
more.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
ENVS = ("HalfCheetah-v5", "Hopper-v5")
RESAMPLES, REPEATS = 10_000, 200
LEAST_RATIO, LEAST_DIFFERENCE = 0.95, -0.25
PACKAGES = ("stable-baselines3", "torch", "gymnasium", "mujoco", "numpy")


class Order(NamedTuple):
    """One run to be played."""

    seed: int
    env: str
    who: str
    steps: int


def play(order: Order) -> dict[str, Any]:
    """Play *order* in a process of its own."""
    script = str(HERE / "play_ppo.py")
    command = [sys.executable, script, order.who, order.env, str(order.seed), str(order.steps)]
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env={**os.environ, **single}, stdout=subprocess.PIPE, text=True, check=True
    )
    return {**order._asdict(), **json.loads(done.stdout.splitlines()[-1])}


def recall(path: Path) -> dict[Order, dict[str, Any]]:
    """Return the results in *path* by their orders."""
    lines = path.read_text().splitlines() if path.exists() else []
    results = [json.loads(line) for line in lines]
    return {Order(*(result[field] for field in Order._fields)): result for result in results}


def play_all(orders: Sequence[Order], path: Path, jobs: int) -> None:
    """Append the results of *orders* to *path*, each as soon as it is there."""
    writing = threading.Lock()

    def play_one(order: Order) -> None:
        result = play(order)
        with writing, path.open("a") as file:
            file.write(json.dumps(result) + "\n")
        score, rate = np.mean(result["returns"]), result["rate"]
        print(*order, f"score {score:.0f}, {rate:.0f} steps/s", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(play_one, orders))


def iqm(scores_XS: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the middle half of the last axis (a quarter, rounded down, goes)."""
    cut = scores_XS.shape[-1] // 4
    middle = np.sort(scores_XS, axis=-1)[..., cut : scores_XS.shape[-1] - cut]
    return middle.mean(axis=-1)


def relative_difference(
    ours_S: NDArray[np.float64], theirs_S: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of (ours - theirs) / |theirs|, by IQM over seeds."""
    rng = np.random.default_rng(0)
    ours_X, theirs_X = (
        iqm(scores_S[rng.integers(len(scores_S), size=(RESAMPLES, len(scores_S)))])
        for scores_S in (ours_S, theirs_S)
    )
    low, high = np.quantile((ours_X - theirs_X) / np.abs(theirs_X), [0.025, 0.975])
    return float(low), float(high)


def chance(ours_S: NDArray[np.float64], theirs_S: NDArray[np.float64]) -> float:
    """Return how often a difference of IQMs as large comes from shuffling whose run is whose."""
    rng = np.random.default_rng(0)
    both = np.tile(np.concatenate([ours_S, theirs_S]), (RESAMPLES, 1))
    mixed_XS = rng.permuted(both, axis=1)
    n = len(ours_S)
    gap_X = np.abs(iqm(mixed_XS[:, :n]) - iqm(mixed_XS[:, n:]))
    return float(np.mean(gap_X >= abs(iqm(ours_S) - iqm(theirs_S))))


def meets(ours_S: NDArray[np.float64], theirs_S: NDArray[np.float64]) -> bool:
    """Say whether the bar is met."""
    low, _ = relative_difference(ours_S, theirs_S)
    return bool(iqm(ours_S) / iqm(theirs_S) >= LEAST_RATIO and low >= LEAST_DIFFERENCE)


def against_itself(scores_S: NDArray[np.float64]) -> float:
    """Return how often runs drawn from *scores_S* meet the bar against others drawn from them."""
    rng = np.random.default_rng(1)
    pairs = (scores_S[rng.integers(len(scores_S), size=(2, len(scores_S)))] for _ in range(REPEATS))
    return float(np.mean([meets(*pair) for pair in pairs]))


def row(env: str, results: Sequence[dict[str, Any]]) -> tuple[str, bool]:
    """Return the line of *env* in the table, and whether the bar is met there."""
    here = [result for result in results if result["env"] == env]
    scores, rates = (
        {who: np.array([of(r) for r in here if r["who"] == who]) for who in ("ours", "sb3")}
        for of in (lambda r: np.mean(r["returns"]), lambda r: r["rate"])
    )
    ours, theirs = float(iqm(scores["ours"])), float(iqm(scores["sb3"]))
    low, high = relative_difference(scores["ours"], scores["sb3"])
    met = meets(scores["ours"], scores["sb3"])
    fast, slow = (float(np.median(rates[who])) for who in ("ours", "sb3"))
    cells = [
        env,
        f"{ours:.0f}",
        f"{theirs:.0f}",
        f"{ours / theirs:.2f}",
        f"{low:+.0%} to {high:+.0%}",
        "met" if met else "missed",
        f"{chance(scores['ours'], scores['sb3']):.2f}",
        f"{against_itself(scores['sb3']):.2f}",
        f"{fast:.0f}",
        f"{slow:.0f}",
        f"{fast / slow:.2f}",
    ]
    return f"| {' | '.join(cells)} |", met


def page(envs: Sequence[str], results: Sequence[dict[str, Any]]) -> str:
    """Return the summary in Markdown."""
    head = (
        "task", "ours, IQM", "SB3, IQM", "ratio", "difference, 95 %", "bar", "p", "SB3 and itself",
        "ours, steps/s", "SB3, steps/s", "ratio",
    )  # fmt: skip
    seeds = sorted({result["seed"] for result in results})
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    about = (
        f"{results[0]['played']:,} steps, {len(seeds)} seeds, 8 environments in one process, "
        "one torch thread; settings in `play_ppo.py`. A score is the mean return of 20 "
        "episodes of the deterministic policy with the normaliser frozen; IQM is over seeds; "
        "rates are medians of environment steps a second, learning included. The bar: ratio of "
        f"IQMs at least {LEAST_RATIO}, lower end of the interval at least "
        f"{LEAST_DIFFERENCE:.0%}. Interval: bootstrap of (ours - SB3) / SB3 by IQM, "
        f"{RESAMPLES:,} resamples of the seeds of each. p: how often a gap as large comes from "
        "shuffling whose run is whose. SB3 and itself: how often as many runs drawn from SB3's "
        "meet the bar against as many others."
    )
    lines = [
        "# Our PPO and Stable-Baselines3's",
        "",
        about,
        "",
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
        *(row(env, results)[0] for env in envs),
        "",
        f"Machine: {machine()}. Python {platform.python_version()}, {packages}.",
        "",
        "| task | seed | ours | SB3 |",
        "| --- | --- | --- | --- |",
        *(
            f"| {env} | {seed} | {score(results, env, seed, 'ours')} "
            f"| {score(results, env, seed, 'sb3')} |"
            for env, seed in product(envs, seeds)
        ),
    ]
    return "\n".join(lines) + "\n"


def score(results: Sequence[dict[str, Any]], env: str, seed: int, who: str) -> str:
    for result in results:
        if (result["env"], result["seed"], result["who"]) == (env, seed, who):
            return f"{np.mean(result['returns']):.0f}"
    return ""


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else platform.machine()}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300_000)
    parser.add_argument("--seeds", type=int, default=10, help="how many, from 0 on")
    parser.add_argument("--envs", nargs="+", default=ENVS)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one core each")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "ppo_vs_sb3.jsonl"
    orders = [
        Order(seed, env, who, args.steps)
        for seed, env, who in product(range(args.seeds), args.envs, ("ours", "sb3"))
    ]
    done = recall(path)
    play_all([order for order in orders if order not in done], path, args.jobs)
    done = recall(path)
    text = page(args.envs, [done[order] for order in orders])
    (args.out / "ppo_vs_sb3.md").write_text(text)
    print(text, end="")
    return 0 if all(row(env, [done[o] for o in orders])[1] for env in args.envs) else 1


if __name__ == "__main__":
    sys.exit(main())
