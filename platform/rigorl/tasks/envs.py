"""TaskSpec -> environments, world specs and worlds."""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper
from numpy.typing import NDArray

from rigorl import seeds
from rigorl.errors import SpecError, TrialFailed, nearest
from rigorl.spec import TaskSpec
from rigorl.tasks.physics import alter
from rigorl.tasks.world import Envs, Policy, World, WorldSpec


def open_env(task: TaskSpec) -> gym.Env[Any, Any]:
    """Open one environment of *task*. Its address in a `SpecError` is as in `$.env`."""
    if task.engine == "envpool":
        single: gym.Env[Any, Any] = _pools().open_single(task)
        return single
    _check_id(task.env)
    try:
        # Gymnasium's checker only prints; what must not be, the watch and the exam refuse.
        env = gym.make(task.env, **{"disable_env_checker": True, **task.kwargs})
    except (ImportError, gym.error.DependencyNotInstalled) as error:
        raise SpecError(
            f"env must open on this machine, but {task.env} does not: {_line(error)}; "
            "install what it misses, or choose another version",
            "$.env",
        ) from error
    except (TypeError, ValueError, AssertionError, OSError, gym.error.Error) as error:
        raise _wrong_kwargs(task, error) from error
    try:
        alter(env, task.physics)
    except SpecError:
        env.close()  # type: ignore[no-untyped-call]
        raise
    return env


def _check_id(env: str) -> None:
    module, _, name = env.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise SpecError(
                f"env must come from a module that can be imported, but {env!r} does not: "
                f"{_line(error)}; install it, or correct the name before the colon",
                "$.env",
            ) from error
    if name not in gym.registry:
        close = nearest(name, gym.registry)
        other = "; install the package that brings it, or write 'module:id' to import one"
        raise SpecError(
            f"env must be registered with Gymnasium, version included, but {name!r} is not"
            + (close if close.startswith("; did you mean") else other),
            "$.env",
        )


def _wrong_kwargs(task: TaskSpec, error: BaseException) -> SpecError:
    known = _parameters(gym.registry[task.env.rpartition(":")[2]].entry_point)
    for key in task.kwargs:
        if known and key not in known:
            return SpecError(
                f"a key of kwargs must be one that {task.env} takes, but {key!r} is not"
                + nearest(key, known),
                f"$.kwargs.{key}",
            )
    return SpecError(
        f"kwargs must suit {task.env}, but do not: {_line(error)}; correct them", "$.kwargs"
    )


def _parameters(entry_point: Any) -> set[str]:
    """Return the names that an environment's class and its ancestors are made with."""
    if isinstance(entry_point, str):
        module, _, name = entry_point.partition(":")
        entry_point = getattr(importlib.import_module(module), name)
    if not isinstance(entry_point, type):
        return set()
    makers = [vars(kind)["__init__"] for kind in entry_point.__mro__ if "__init__" in vars(kind)]
    named = {name for maker in makers[:-1] for name in inspect.signature(maker).parameters}
    return named - {"self", "args", "kwargs"} | {"max_episode_steps"}


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def open_envs(task: TaskSpec, num_envs: int, seed: int) -> Envs:
    """Open *num_envs* environments of *task*, already seeded: `reset()` needs no seed.

    Each has a stream of its own, the same however many stand beside it.
    """
    if task.engine == "envpool":
        return Watch(_pools().open_pool(task, num_envs, seed))
    envs = SyncVectorEnv(
        [partial(open_env, task)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP
    )
    envs.reset(seed=[seeds.integer(seed, "env", i) for i in range(num_envs)])
    envs.action_space.seed(seeds.integer(seed, "action"))
    return Watch(envs)


class Watch(VectorWrapper):
    """Ends the trial at the first action, observation or reward that is not finite."""

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        _check_finite("action", actions, "the policy has diverged: lower its learning rate")
        obs, rewards, terminated, truncated, info = self.env.step(actions)
        way_out = "tame the task's physics and kwargs"
        _check_finite("reward", rewards, way_out)
        _check_finite("observation", obs, way_out)
        for i, ended in enumerate(info.get("_final_obs", ())):
            if ended:
                _check_finite("observation", info["final_obs"][i], way_out, at=i)
        return obs, rewards, terminated, truncated, info


def _check_finite(what: str, values: Any, way_out: str, *, at: int | None = None) -> None:
    """Raise `TrialFailed` unless *values* are; their first axis is environments, or `at` is."""
    if isinstance(values, Mapping):
        values = tuple(values.values())
    if isinstance(values, tuple):
        for part in values:
            _check_finite(what, part, way_out, at=at)
        return
    array: NDArray[Any] = np.asarray(values)
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    first = np.argwhere(~np.isfinite(array))[0]
    raise TrialFailed(
        f"{what} must be finite, but is {array[tuple(first)]} in environment "
        f"{first[0] if at is None else at}; {way_out}"
    )


def world_spec(tasks: Sequence[TaskSpec], num_envs: int) -> WorldSpec:
    """Open each of *tasks* for a moment, and return what an agent is told of them."""
    spaces = []
    for i, task in enumerate(tasks):
        try:
            with closing(open_env(task)) as env:
                spaces.append((env.observation_space, env.action_space))
            if task.dataset is not None:
                _datasets().check(task.dataset)
        except SpecError as error:
            raise error.below(f"$.tasks[{i}]") from error
        for kind, first, here in zip(("observation", "action"), spaces[0], spaces[i], strict=True):
            if here != first:
                raise SpecError(
                    f"tasks must share their {kind} space, but {tasks[0].name!r} has {first} "
                    f"and {task.name!r} has {here}; leave one of them to another experiment",
                    f"$.tasks[{i}]",
                )
    return WorldSpec(*spaces[0], num_envs=num_envs, tasks=tuple(tasks))


def open_world(task: TaskSpec, num_envs: int, seed: int, given: Mapping[str, Policy]) -> World:
    """Open all that an agent learns *task* from."""
    dataset = None if task.dataset is None else _datasets().load(task.dataset)
    return World(task, open_envs(task, num_envs, seed), dataset, given)


def _datasets() -> Any:
    """Return tasks/dataset.py, imported only where a task has a dataset: minari is optional."""
    try:
        return importlib.import_module("rigorl.tasks.dataset")
    except ModuleNotFoundError as error:
        raise SpecError(
            f"a dataset must be read by minari, but {error.name} is missing; "
            "`pip install 'rigorl[offline]'`",
            "$.dataset",
        ) from error


def _pools() -> Any:
    """Return tasks/pool.py, imported only where a task asks for it: envpool is optional."""
    try:
        return importlib.import_module("rigorl.tasks.pool")
    except ModuleNotFoundError as error:
        raise SpecError(
            f"engine envpool must have EnvPool, but {error.name} is missing; "
            "`pip install 'rigorl[envpool]'`, or use `engine: auto`",
            "$.engine",
        ) from error
