"""The `vary:` of a task: physics drawn anew for each episode."""

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import gymnasium as gym
import mujoco  # type: ignore[import-untyped]
import numpy as np
from msgspec.structs import replace

from rigorl.seeds import stream
from rigorl.spec import Physics, Range, TaskSpec, Vary
from rigorl.tasks.physics import alter


class Variation:
    """The physics of one environment, or of one model, of *task*.

    Raises `SpecError` where an end of `vary` cannot be; *target* is then altered by half.
    """

    def __init__(self, target: gym.Env[Any, Any] | mujoco.MjModel, task: TaskSpec) -> None:
        self._target, self._vary, self._rng = target, task.vary, np.random.default_rng()
        bare = target.unwrapped if isinstance(target, gym.Env) else target
        model = getattr(bare, "model", bare)
        # Scales are of what was there. Classic control takes values, and has nothing to keep.
        self._kept = (
            [(array, array.copy()) for array in _altered(model)]
            if isinstance(model, mujoco.MjModel)
            else []
        )
        for end in (0.0, 1.0):
            self._apply(repeat(end))

    def draw(self, seed: int | None = None) -> None:
        """Draw the physics of the next episode; with *seed* it depends on nothing before."""
        if seed is not None:
            self._rng = np.random.default_rng(stream(seed, "vary"))
        self._apply(iter(self._rng.random, None))

    def _apply(self, shares: Iterator[float]) -> None:
        for array, before in self._kept:
            array[:] = before
        alter(self._target, _between(self._vary, shares), "vary")


class Varied(gym.Wrapper[Any, Any, Any, Any]):
    """An environment whose physics are drawn anew at each reset."""

    def __init__(self, env: gym.Env[Any, Any], task: TaskSpec) -> None:
        super().__init__(env)
        self._variation = Variation(env, task)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self._variation.draw(seed)
        return self.env.reset(seed=seed, options=options)


def ends(task: TaskSpec) -> list[TaskSpec]:
    """Return *task* with the physics of each end of what it varies; if nothing, as it is."""
    if not task.vary:
        return [task]
    both = (_between(task.vary, repeat(share)) for share in (0.0, 1.0))
    return [replace(task, physics={**task.physics, **physics}, vary={}) for physics in both]


def _between(vary: Vary, shares: Iterator[float]) -> Physics:
    """Return physics that lie so far on the way from the lower to the higher end."""

    def at(ends_: Range) -> float:
        low, high = ends_
        return low + next(shares) * (high - low)

    return {
        key: {name: at(part) for name, part in value.items()}
        if isinstance(value, dict)
        else at(value)
        for key, value in vary.items()
    }


def _altered(model: mujoco.MjModel) -> list[Any]:
    """Return the arrays of *model* that `alter` may change by a factor, and gravity."""
    arrays = (model.body_mass, model.body_inertia, model.geom_friction, model.actuator_gear)
    return [*arrays, model.dof_damping, model.dof_dampingpoly, model.opt.gravity]
