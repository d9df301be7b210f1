"""Which robots of Gymnasium we know, and whether an environment is one of them and no more."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import mujoco  # type: ignore[import-untyped]
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv
from gymnasium.envs.mujoco.inverted_double_pendulum_v5 import InvertedDoublePendulumEnv
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv
from gymnasium.envs.mujoco.pusher_v5 import PusherEnv
from gymnasium.envs.mujoco.reacher_v5 import ReacherEnv
from gymnasium.envs.mujoco.swimmer_v5 import SwimmerEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from rigorl.tasks.robots.arms import InvertedDoublePendulum, InvertedPendulum, Pusher, Reacher
from rigorl.tasks.robots.robot import Robot
from rigorl.tasks.robots.runners import HalfCheetah, Legs, Swimmer
from rigorl.tasks.robots.torsos import Ant, Humanoid

ROBOTS: dict[type[Any], Callable[[Any, Sequence[mujoco.MjModel]], Robot]] = {
    AntEnv: Ant,
    HalfCheetahEnv: HalfCheetah,
    HopperEnv: Legs,
    HumanoidEnv: Humanoid,
    InvertedDoublePendulumEnv: InvertedDoublePendulum,
    InvertedPendulumEnv: InvertedPendulum,
    PusherEnv: Pusher,
    ReacherEnv: Reacher,
    SwimmerEnv: Swimmer,
    Walker2dEnv: Legs,
}


def covers(env: gym.Env[Any, Any]) -> bool:
    """Whether a `BatchedMujoco` may stand for environments like *env*.

    A subclass may do anything, and so may a wrapper that is not Gymnasium's own.
    """
    while isinstance(env, gym.Wrapper):
        if type(env) not in {OrderEnforcing, PassiveEnvChecker, TimeLimit}:
            return False
        env = env.env
    return type(env) in ROBOTS and env.render_mode is None


def time_limit(env: gym.Env[Any, Any]) -> int | None:
    """Return after how many steps the wrappers around *env* end an episode."""
    limits = []
    while isinstance(env, gym.Wrapper):
        if isinstance(env, TimeLimit):
            limits.append(vars(env)["_max_episode_steps"])
        env = env.env
    return min(limits, default=None)
