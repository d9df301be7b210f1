"""Measure how fast our PPO or Stable-Baselines3's learns, and print it as JSON.

    python speed_ppo.py ours|sb3 ENV SECONDS [--threads N] [--subproc]

Ours is an agent in a world, as a trial has it. Threads are torch's for SB3, and for ours those
that step the simulations (`budget.cpus`). Both get what `ppo_settings.py` says, and stop
at the end of a rollout. `throughput.py` calls this; each run has a process of its own.
"""

import argparse
import json
from collections.abc import Iterator
from functools import partial

import gymnasium as gym
import torch
from play_ppo import make_sb3
from ppo_settings import NUM_ENVS, ROLLOUT, SETTINGS
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv
from stopwatch import steady

from rigorl.agents import ppo
from rigorl.contract import Span
from rigorl.outside.in_process import Alone
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_world, world_spec

ENDLESS = 2**40


def ours(env: str, threads: int) -> Iterator[int]:
    """Yield the steps so far after each rollout that was learned from."""
    task = TaskSpec(name="task", env=env)
    agent = ppo.make(ppo.Config(**SETTINGS), world_spec([task], NUM_ENVS), seed=0)
    world = open_world(task, NUM_ENVS, seed=0, given={}, threads=threads)
    for progress in agent.learn(world, Alone(), Span(0, 0, ENDLESS)):
        if progress.safe:
            yield progress.step


def sb3(env: str, *, subproc: bool) -> Iterator[int]:
    """Yield the steps so far after each rollout that was learned from."""
    kind = SubprocVecEnv if subproc else DummyVecEnv
    _, model = make_sb3(kind([partial(gym.make, env)] * NUM_ENVS), seed=0)
    while True:
        model.learn(ROLLOUT, reset_num_timesteps=False)
        yield model.num_timesteps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("who", choices=("ours", "sb3"))
    parser.add_argument("env")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--subproc", action="store_true", help="SB3: an environment a process")
    args = parser.parse_args()
    if args.who == "ours":
        learning = ours(args.env, args.threads)
    else:
        torch.set_num_threads(args.threads)
        learning = sb3(args.env, subproc=args.subproc)
    print(json.dumps(steady(learning, args.seconds)), flush=True)


if __name__ == "__main__":
    main()
