"""Train one PPO, ours or Stable-Baselines3's, and print its learning curve as JSON.

    python play_curve.py ours|sb3 ENV SEED STEPS [--threads N]

Both get what `ppo_settings.py` says; ours acts in the world of a trial, theirs in a DummyVecEnv.
The policy is examined as in `play_ppo.py` every fifteen rollouts and at the end; the clock
stands still meanwhile. `curve` holds (environment steps, seconds, mean return).
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from functools import partial

import gymnasium as gym
import numpy as np
import torch
from play_ppo import Act, examine, make_sb3, sb3_policy
from ppo_settings import NUM_ENVS, ROLLOUT, SETTINGS
from stable_baselines3.common.vec_env import DummyVecEnv

from rigorl.agents import ppo
from rigorl.contract import Span
from rigorl.outside.in_process import Alone
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_world, world_spec

THREADS = 2
"""That step our simulations; with more than one core. What is learned does not depend on it."""
EVERY = 15
"""Rollouts between two exams."""


def ours(env: str, seed: int, steps: int) -> Iterator[tuple[int, Callable[[], Act]]]:
    """Yield the steps so far and a way to the policy after each rollout that was learned from."""
    task = TaskSpec(name="task", env=env)
    agent = ppo.make(ppo.Config(**SETTINGS), world_spec([task], NUM_ENVS), seed)
    world = open_world(task, NUM_ENVS, seed, given={}, threads=THREADS)
    for progress in agent.learn(world, Alone(), Span(0, 0, steps)):
        if progress.safe:
            yield progress.step, lambda: agent.policies()["ppo"]


def sb3(env: str, seed: int, steps: int) -> Iterator[tuple[int, Callable[[], Act]]]:
    """Yield the steps so far and a way to the policy after each rollout that was learned from."""
    envs, model = make_sb3(DummyVecEnv([partial(gym.make, env)] * NUM_ENVS), seed)
    policy = sb3_policy(envs, model)
    for _ in range(steps // ROLLOUT):
        model.learn(ROLLOUT, reset_num_timesteps=False)
        yield model.num_timesteps, lambda: policy


def curve(
    learning: Iterator[tuple[int, Callable[[], Act]]], env: str, steps: int
) -> list[list[float]]:
    """Return steps, seconds of learning and mean return at each exam."""
    points, seconds, clock = [], 0.0, time.perf_counter()
    for step, policy in learning:
        seconds += time.perf_counter() - clock
        if step % (EVERY * ROLLOUT) == 0 or step == steps:
            points.append([step, seconds, float(np.mean(examine(policy(), env)))])
        clock = time.perf_counter()
    return points


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("who", choices=("ours", "sb3"))
    parser.add_argument("env")
    parser.add_argument("seed", type=int)
    parser.add_argument("steps", type=int)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    steps = math.ceil(args.steps / ROLLOUT) * ROLLOUT
    learning = {"ours": ours, "sb3": sb3}[args.who](args.env, args.seed, steps)
    print(json.dumps({"curve": curve(learning, args.env, steps)}), flush=True)


if __name__ == "__main__":
    main()
