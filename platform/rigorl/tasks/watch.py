"""What comes of an environment is believed only as long as it is finite.

An episode whose simulation diverges ends there: the step earns 0, leads to the observation
before it, and counts as truncated. `info[DIVERGED]` says so. Vector environments of our own
(`robots/batched.py`, `pool.py`) do the same by themselves.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import iterate
from mujoco import MjData  # type: ignore[import-untyped]
from numpy.typing import NDArray

from rigorl.errors import TrialFailed
from rigorl.spec import TaskSpec
from rigorl.tasks.physics import came_apart
from rigorl.tasks.world import DIVERGED, Tally


class Believed(gym.Wrapper[Any, Any, Any, Any]):
    """Ends the episode of one environment where it diverges."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._before: Any = None
        self._simulated = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        self._before = copied(obs)
        self._simulated = isinstance(getattr(self.unwrapped, "data", None), MjData)
        return self._before, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        bare: Any = self.unwrapped if self._simulated else None
        apart = bare is not None and came_apart(bare.data)
        if apart or not (is_finite(obs) and is_finite(reward)):
            return self._before, np.zeros_like(reward), False, True, {**info, DIVERGED: True}
        self._before = copied(obs)
        return self._before, reward, terminated, truncated, info


class Watch(VectorWrapper):
    """Ends the trial at the first action that is not finite; counts episodes, and divergence."""

    def __init__(self, envs: VectorEnv[Any, Any, Any], task: TaskSpec, tally: Tally) -> None:
        super().__init__(envs)
        self._task, self._tally = task, tally

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self._check(actions)
        obs, rewards, terminated, truncated, info = self.env.step(actions)
        ended = int(np.count_nonzero(terminated | truncated))
        if ended:
            # A SyncVectorEnv puts aside what it was told in the step that ended an episode.
            last = info if DIVERGED in info else info.get("final_info", {})
            lost = int(np.count_nonzero(last.get(DIVERGED, False)))
            self._tally.add(self._task, ended, lost)
        return obs, rewards, terminated, truncated, info

    def _check(self, actions: Any) -> None:
        if is_finite(actions):
            return
        for i, action in enumerate(iterate(self.action_space, actions)):
            if not is_finite(action):
                raise TrialFailed(
                    f"action must be finite, but is {action} in environment {i}; the policy has "
                    "diverged: lower its learning rate"
                )


def copied(obs: Any) -> Any:
    """Return a copy of *obs*, to which its environment will not write again."""
    return obs.copy() if isinstance(obs, np.ndarray) else copy.deepcopy(obs)


def is_finite(values: Any) -> bool:
    """Say whether all numbers of *values*, an element of a space, are."""
    if isinstance(values, float):
        return math.isfinite(values)
    if isinstance(values, Mapping):
        values = tuple(values.values())
    if isinstance(values, tuple):
        return all(map(is_finite, values))
    array: NDArray[Any] = np.asarray(values)
    if array.dtype.kind != "f":
        return True
    # The sum of squares is finite or not in a third of the time; too large, it says nothing.
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())
