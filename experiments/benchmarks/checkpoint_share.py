"""Measure what checkpoints cost: their share of a run's time at the default cadence.

    python experiments/benchmarks/checkpoint_share.py [--runs 5] [--steps 8192] [--every 2048]

PPO plays each task in one process with one torch thread. Checkpoints come more often than they
do by default, so that a short run meets several; the share at the default cadence is that of one
checkpoint in the time that so many steps take, with one exam. `--steps 53248 --every 50000` plays
the default cadence itself, and the share of the whole run then says the same. What a checkpoint
costs beside its writing, to close the world and open it again, is measured apart.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from ppo_vs_sb3 import machine

from rigorl.outside.in_process import Alone
from rigorl.run import Run
from rigorl.spec import AgentSpec, Budget, TaskSpec
from rigorl.tasks.envs import open_world
from rigorl.trial import Beat, Trial

HERE = Path(__file__).parent
ENVS = ("HalfCheetah-v5", "CartPole-v1")
BAR = 0.03
DEFAULT = Budget(steps=1, exam_every=1).checkpoint_every
NUM_ENVS, N_STEPS, EXAM_EPISODES = 8, 256, 2
PACKAGES = ("torch", "gymnasium", "mujoco", "numpy")


class Cost(NamedTuple):
    """What was seen of one run, in seconds."""

    learn: float
    """For as many steps as lie between two checkpoints by default."""
    exam: float
    save: float
    """The median checkpoint that holds an agent."""
    reopen: float
    run_share: float
    """Of the run as it was played, its last checkpoint and final policies included."""

    @property
    def share(self) -> float:
        return self.save / (self.learn + self.exam + self.save)


def play(env: str, seed: int, steps: int, every: int, storage: Path) -> Cost:
    """Play one trial on *env*, with an exam at its end, and return what it cost."""
    trial = Trial(
        experiment="checkpoint-share",
        arm="ppo",
        phase="test",
        agent=AgentSpec(name="ppo", config={"n_steps": N_STEPS}),
        tasks=(TaskSpec(name="task", env=env),),
        budget=Budget(
            steps=steps,
            exam_every=steps,
            exam_episodes=EXAM_EPISODES,
            num_envs=NUM_ENVS,
            checkpoint_every=every,
        ),
        seed=seed,
    )
    run = Run(trial, Alone(), storage)
    spent = [0.0, *(e.seconds["checkpoint"] for e in run if isinstance(e, Beat) and e.saved)]
    saves = np.diff(spent)[:-1]  # the last one holds no agent, but its final policies
    seconds = run.seconds
    return Cost(
        learn=seconds["learn"] / steps * DEFAULT,
        exam=seconds["exam"],
        save=float(np.median(saves)),
        reopen=reopen(trial.tasks[0]),
        run_share=seconds["checkpoint"] / sum(seconds.values()),
    )


def reopen(task: TaskSpec) -> float:
    """Return the seconds that it takes to close a world and to open the next one."""
    clock = time.perf_counter()
    with closing(open_world(task, NUM_ENVS, seed=0, given={})) as world:
        world.envs.reset()
    return time.perf_counter() - clock


def flush(storage: Path) -> float:
    """Return the median seconds of an `fsync` of one page here."""
    seconds = []
    for i in range(20):
        with (storage / f"page-{i}").open("wb", buffering=0) as file:
            file.write(bytes(4096))
            clock = time.perf_counter()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - clock)
    return float(np.median(seconds))


def row(env: str, costs: Sequence[Cost]) -> str:
    """Return the medians over runs; of the share, the range as well."""
    shares = [cost.share for cost in costs]
    learn, exam, save, again, whole, share = (
        float(np.median([getattr(cost, part) for cost in costs]))
        for part in ("learn", "exam", "save", "reopen", "run_share", "share")
    )
    cells = [
        env,
        f"{learn:.1f}",
        f"{exam:.2f}",
        f"{save * 1000:.0f}",
        f"{share:.2%} ({min(shares):.2%} to {max(shares):.2%})",
        "met" if share <= BAR else "missed",
        f"{whole:.2%}",
        f"{again * 1000:.0f}",
        f"{again / (learn + exam + save):.2%}",
    ]
    return f"| {' | '.join(cells)} |"


def page(costs: Mapping[str, Sequence[Cost]], fsync: float, args: argparse.Namespace) -> str:
    """Return the summary in Markdown."""
    head = (
        "task", f"learn {DEFAULT:,} steps, s", "one exam, s", "checkpoint, ms", "share (range)",
        f"at most {BAR:.0%}", "share of the run itself", "reopen, ms", "share of that",
    )  # fmt: skip
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    about = (
        f"PPO, {NUM_ENVS} environments, rollouts of {NUM_ENVS * N_STEPS:,} steps, one process and "
        f"one torch thread; {args.runs} runs of {args.steps:,} steps with a checkpoint every "
        f"{args.every:,} and an exam of {EXAM_EPISODES} episodes at the end; medians over runs. "
        f"The share is of one checkpoint in {DEFAULT:,} steps, the default, and one exam. The run "
        "itself holds its last checkpoint and final policies too. To reopen is to close the world "
        "and to open and seed the next one, which a checkpoint asks for beside its writing."
    )
    command = " ".join(["python experiments/benchmarks/checkpoint_share.py", *sys.argv[1:]])
    made_with = (
        f"Machine: {machine()}; an fsync of one page takes {fsync * 1000:.1f} ms. "
        f"Python {platform.python_version()}, {packages}."
    )
    lines = [
        "# What checkpoints cost",
        "",
        f"`{command}`",
        "",
        about,
        "",
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
        *(row(env, seen) for env, seen in costs.items()),
        "",
        made_with,
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8_192)
    parser.add_argument("--every", type=int, default=2_048, help="steps between checkpoints")
    parser.add_argument("--envs", nargs="+", default=ENVS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    costs: dict[str, list[Cost]] = {env: [] for env in args.envs}
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".storage-") as folder:  # /tmp may be memory
        for seed in range(args.runs):
            for env in args.envs:
                costs[env].append(play(env, seed, args.steps, args.every, Path(folder)))
        text = page(costs, flush(Path(folder)), args)
    print(text, end="")
    return 0 if all(np.median([c.share for c in seen]) <= BAR for seen in costs.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
