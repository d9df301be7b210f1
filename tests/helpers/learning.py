"""A world to learn in, and a moment of learning."""

from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rigorl.contract import Agent, Progress, Span
from rigorl.outside.in_process import Alone
from rigorl.spec import TaskSpec
from rigorl.tasks.world import World


def world(env: str, num_envs: int = 4, seed: int = 0, **kwargs: Any) -> World:
    envs = SyncVectorEnv(
        [partial(gym.make, env, **kwargs)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP
    )
    envs.reset(seed=seed)
    return World(TaskSpec(name="t", env=env), envs)


def learn(who: Agent, place: World, start: int, stop: int, stage: int = 0) -> list[Progress]:
    return list(who.learn(place, Alone(), Span(stage, start, stop)))
