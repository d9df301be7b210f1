"""Train one PPO, ours or Stable-Baselines3's, examine it, and print the result as JSON.

    python play_ppo.py ours|sb3 ENV SEED STEPS

Both get what SETTINGS says, the same environments, one torch thread, and whole rollouts: the
last one is not cut. `ppo_vs_sb3.py` calls this; each run has a process of its own.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray
from ppo_settings import NUM_ENVS, ROLLOUT, SETTINGS
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from torch import nn

from rigorl.agents import ppo
from rigorl.contract import Span
from rigorl.outside.in_process import Alone
from rigorl.spec import TaskSpec
from rigorl.tasks.world import World, WorldSpec

EXAM_SEEDS = range(1_000_000, 1_000_020)

Act = Callable[[NDArray[Any]], NDArray[Any]]


def ours(env: str, seed: int, steps: int) -> tuple[Act, float]:
    """Return the trained policy, and the seconds that learning took."""
    envs = SyncVectorEnv(
        [partial(gym.make, env)] * NUM_ENVS, autoreset_mode=AutoresetMode.SAME_STEP
    )
    envs.reset(seed=seed)
    task = TaskSpec(name="task", env=env)
    spaces = envs.single_observation_space, envs.single_action_space
    agent = ppo.make(ppo.Config(**SETTINGS), WorldSpec(*spaces, NUM_ENVS, (task,)), seed)
    clock = time.perf_counter()
    for _ in agent.learn(World(task, envs), Alone(), Span(0, 0, steps)):
        pass
    return agent.policies()["ppo"], time.perf_counter() - clock


def sb3(env: str, seed: int, steps: int) -> tuple[Act, float]:
    """Return the trained policy, and the seconds that learning took."""
    envs, model = make_sb3(DummyVecEnv([partial(gym.make, env)] * NUM_ENVS), seed)
    clock = time.perf_counter()
    model.learn(steps)
    seconds = time.perf_counter() - clock
    return sb3_policy(envs, model), seconds


def make_sb3(bare: VecEnv, seed: int) -> tuple[VecNormalize, PPO]:
    """Return *bare* with its observations and rewards normalised, and a newborn PPO on it."""
    envs = VecNormalize(
        bare,
        clip_obs=SETTINGS["obs_clip"],
        clip_reward=SETTINGS["reward_clip"],
        gamma=SETTINGS["discount"],
        epsilon=1e-8,
    )
    hidden = list(SETTINGS["hidden"])
    model = PPO(
        "MlpPolicy",
        envs,
        learning_rate=SETTINGS["lr"],
        n_steps=SETTINGS["n_steps"],
        batch_size=SETTINGS["minibatch"],
        n_epochs=SETTINGS["epochs"],
        gamma=SETTINGS["discount"],
        gae_lambda=SETTINGS["gae_lambda"],
        clip_range=SETTINGS["clip"],
        clip_range_vf=None,
        normalize_advantage=True,
        ent_coef=SETTINGS["entropy_coef"],
        vf_coef=SETTINGS["value_coef"],
        max_grad_norm=SETTINGS["max_grad_norm"],
        target_kl=None,
        policy_kwargs={
            "net_arch": {"pi": hidden, "vf": hidden},
            "activation_fn": nn.Tanh,
            "ortho_init": True,
            "log_std_init": SETTINGS["log_std_init"],
            "optimizer_kwargs": {"eps": SETTINGS["adam_eps"]},
        },
        seed=seed,
        device="cpu",
    )
    return envs, model


def sb3_policy(envs: VecNormalize, model: PPO) -> Act:
    """Return what *model* would do if examined now; its normaliser stands still meanwhile."""

    def act(obs: NDArray[Any]) -> NDArray[Any]:
        return model.predict(envs.normalize_obs(obs), deterministic=True)[0]

    return act


def examine(act: Act, env: str, seeds: Sequence[int] = EXAM_SEEDS) -> list[float]:
    """Return the return of an episode for each of *seeds*."""
    rooms = [gym.make(env) for _ in seeds]
    obs = np.stack([room.reset(seed=s)[0] for room, s in zip(rooms, seeds, strict=True)])
    returns, running = [0.0] * len(rooms), set(range(len(rooms)))
    while running:
        actions = act(obs)
        for i in tuple(running):
            obs[i], reward, terminated, truncated, _ = rooms[i].step(actions[i])
            returns[i] += float(reward)
            if terminated or truncated:
                running.remove(i)
    return returns


def main() -> None:
    who, env, seed, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    steps = math.ceil(steps / ROLLOUT) * ROLLOUT
    act, seconds = {"ours": ours, "sb3": sb3}[who](env, seed, steps)
    returns = examine(act, env)
    result = {"played": steps, "seconds": seconds, "rate": steps / seconds, "returns": returns}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
