"""Measure what an update of PPO costs with one learner, and with two.

    python parallel_ppo.py [--rounds 5]

A rollout of made-up steps is learned from: no environments. Two learners are tried in turns, in
one process, and in two, which is what a crew gives; what it takes them to meet is counted. All
ways take their turn in each round, so that a busy machine is busy for all. CPU only, a torch
thread each. CPU time is that of the agent's own process: where processes have no core each, it
says what the clock cannot.
"""

import argparse
import math
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box
from ppo_vs_sb3 import machine

from rigorl.agents.ppo import PPO, Config, make
from rigorl.blocks.rollout import Batch
from rigorl.blocks.shards import Lesson
from rigorl.contract import Crew
from rigorl.outside.in_process import Alone
from rigorl.tasks.world import WorldSpec

OBS, ACTION = Box(-1, 1, (17,), np.float32), Box(-1, 1, (6,), np.float32)
PACKAGES = ("torch", "numpy")


class Size(NamedTuple):
    hidden: tuple[int, ...]
    rows: int
    minibatch: int
    epochs: int


SIZES = (Size((64, 64), 2048, 64, 10), Size((1024, 1024), 2048, 512, 2))
WAYS = ("1 learner", "2 in turns", "2 in processes")


class Processes:
    """A crew of one fresh interpreter."""

    size = 1

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.executor = ProcessPoolExecutor(self.size, mp_context=spawn)

    def share(self, value: Any) -> Any:
        return value

    def submit(self, function: Callable[[Any], Any], item: Any) -> "Future[Any]":
        return self.executor.submit(function, item)

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return self.executor.map(function, items)


def rollout(size: Size) -> Batch[Any]:
    rng = np.random.default_rng(0)
    obs_BD, action_BA = (
        rng.normal(size=(size.rows, *box.shape)).astype(np.float32) for box in (OBS, ACTION)
    )
    return Batch(obs_BD, action_BA, *rng.normal(size=(3, size.rows)).astype(np.float32))


class Cost(NamedTuple):
    """Of an update, in seconds."""

    clock: float
    cpu: float


Costs = dict[str, list[Cost]]


def cost(agent: PPO, size: Size, batch: Batch[Any], crew: Crew) -> Cost:
    """Return what an update takes, over one rollout."""
    lesson = Lesson(size.minibatch, 3e-4, 0.2, 0.5)
    clock, cpu = time.perf_counter(), time.process_time()
    updates = sum(1 for _ in agent._improve(batch, lesson, crew))  # noqa: SLF001
    return Cost((time.perf_counter() - clock) / updates, (time.process_time() - cpu) / updates)


def measure(size: Size, rounds: int, crews: dict[str, Crew]) -> Costs:
    world, batch = WorldSpec(OBS, ACTION, 1, ()), rollout(size)
    agents = {}
    for way in WAYS:
        config = Config(hidden=size.hidden, epochs=size.epochs, learners=int(way[0]))
        agents[way] = make(config, world, seed=0)
        cost(agents[way], size, batch, crews[way])  # warm
    taken: Costs = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            taken[way].append(cost(agents[way], size, batch, crews[way]))
    return taken


def row(size: Size, taken: Costs, part: str) -> str:
    cells = [str(size.hidden), str(size.minibatch), part]
    costs = {way: [getattr(one, part) for one in taken[way]] for way in WAYS}
    for way in WAYS:
        low, middle, high = (1000 * f(costs[way]) for f in (min, np.median, max))
        cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
    ratios = [one / two for one, two in zip(costs[WAYS[0]], costs[WAYS[2]], strict=True)]
    cells.append(f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    two = Processes()
    crews: dict[str, Crew] = dict(zip(WAYS, (Alone(), Alone(), two), strict=True))
    head = ("hidden", "minibatch", "time", *(f"{way}, ms" for way in WAYS), "1 to 2 in processes")
    rows = []
    for size in SIZES:
        taken = measure(size, args.rounds, crews)
        rows += [row(size, taken, part) for part in Cost._fields]
    two.executor.shutdown()
    rollouts = "; ".join(
        f"{size.rows} rows, {math.ceil(size.rows / size.minibatch) * size.epochs} updates"
        for size in SIZES
    )
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    print(
        "# What an update costs with several learners",
        f"`{' '.join(['python experiments/benchmarks/parallel_ppo.py', *sys.argv[1:]])}`",
        "Milliseconds an update: medians over rounds, and from least to most. The last column is "
        "how many times as fast two processes are as one, paired by round. CPU time is the "
        "agent's own, without the follower's. Rollouts of "
        f"{rollouts}; {args.rounds} rounds after a warm-up.",
        f"| {' | '.join(head)} |\n|{' --- |' * len(head)}\n" + "\n".join(rows),
        f"Machine: {machine()}, load {os.getloadavg()[0]:.1f}. Python "
        f"{platform.python_version()}, {packages}.",
        sep="\n\n",
    )


if __name__ == "__main__":
    main()
