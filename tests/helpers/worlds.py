"""Target: come close to a number that the task hides. Five steps an episode."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box


class Target(gym.Env[Any, Any]):
    # Made once: the tests open this world thousands of times.
    observation_space = Box(-1.0, 1.0, (1,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, target: float = 0.5, noise: float = 0.0, nan_after: int = -1) -> None:
        self.target, self.noise, self.nan_after = target, noise, nan_after
        self.lived = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.step_in_episode = 0
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        self.step_in_episode += 1
        self.lived += 1
        luck = self.noise * self.np_random.normal() if self.noise else 0.0
        reward = -abs(float(action[0]) - self.target) + luck
        if 0 <= self.nan_after < self.lived:
            reward = float("nan")
        return self._obs(), reward, False, self.step_in_episode == 5, {}

    def _obs(self) -> Any:
        return self.np_random.uniform(-1, 1, size=1).astype(np.float32)


if "Target-v0" not in gym.registry:
    gym.register("Target-v0", entry_point="helpers.worlds:Target")


class Sea(gym.Env[Any, Any]):
    """One step: a direction and a speed. Two rewards, on a quarter of a circle."""

    observation_space = Box(-1.0, 1.0, (1,), np.float32)
    action_space = Box(0.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        angle, speed = float(action[0]) * np.pi / 2, float(action[1])
        luck = 0.01 * self.np_random.normal(size=2)
        reward = speed * np.array([np.cos(angle), np.sin(angle)]) + luck
        return np.zeros(1, np.float32), reward, True, False, {}


if "Sea-v0" not in gym.registry:
    gym.register("Sea-v0", entry_point="helpers.worlds:Sea")
