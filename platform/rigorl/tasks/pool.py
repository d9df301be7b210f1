"""Environments of EnvPool (`engine: envpool`). To import this file takes the extra `envpool`.

EnvPool (Weng et al. 2022) steps a batch of environments in C++ threads. Its seeds are fixed when
a pool is made. There may be one for each environment, whose stream then depends on that seed
alone: in a pool of one it lives as it would in a larger one (tested). Left alone, EnvPool resets
an environment at the step after the end; asked for by its number, it is reset within the step.

Time limits are EnvPool's: an episode that falls at its last step counts as cut there.

Shapes: E environments, D numbers of an observation, A action.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import envpool
import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rigorl import seeds
from rigorl.errors import SpecError, nearest
from rigorl.spec import TaskSpec
from rigorl.tasks.watch import is_finite
from rigorl.tasks.world import DIVERGED

OURS = frozenset(
    {"num_envs", "batch_size", "num_threads", "max_num_players", "seed", "env_seed"}
    | {"base_path", "thread_affinity_offset", "gym_reset_return_info"}
)
"""What EnvPool takes and a task may not say."""
INT32 = 2**31


def open_pool(task: TaskSpec, num_envs: int, seed: int, threads: int = 1) -> "Pool":
    """Open *num_envs* environments of *task*, already seeded, each with a stream of its own.

    What comes of it does not depend on *threads*. Addresses in a `SpecError` are as in `$.env`.
    """
    luck = [seeds.integer(seed, "env", i) for i in range(num_envs)]
    envs = Pool(_make(task, luck, threads))
    envs.action_space.seed(seeds.integer(seed, "action"))
    return envs


def open_single(task: TaskSpec) -> "Single":
    """Open one environment of *task*, as new after each `reset(seed=...)`: for exams."""
    return Single(task)


class Pool(VectorEnv[Any, Any, Any]):
    """A pool that resets its environments within the step that ends an episode."""

    def __init__(self, pool: Any) -> None:
        self.pool, self.num_envs = pool, len(pool)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = _seen(pool.observation_space)
        self.single_action_space = pool.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every environment; *seed* came when the pool was opened."""
        if seed is not None or options:
            raise ValueError("a pool must be reset as it is: it was seeded when it was opened")
        obs, info = self.pool.reset()
        self._before_ED = _flat(obs)
        return self._before_ED, _told(info)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        obs, reward_E, terminated_E, truncated_E, info = self.pool.step(np.asarray(actions))
        obs_ED, info = _flat(obs), _told(info)
        reward_E = reward_E.astype(np.float64)
        if not (is_finite(obs_ED) and is_finite(reward_E)):
            lost_E = ~np.isfinite(reward_E)
            lost_E |= ~np.isfinite(obs_ED.reshape(self.num_envs, -1)).all(axis=1)
            obs_ED = obs_ED.copy()
            obs_ED[lost_E], reward_E[lost_E] = self._before_ED[lost_E], 0.0
            terminated_E, truncated_E = terminated_E & ~lost_E, truncated_E | lost_E
            info |= {DIVERGED: lost_E, f"_{DIVERGED}": lost_E.copy()}
        ended_E = terminated_E | truncated_E
        if ended_E.any():
            final_E = np.full(self.num_envs, None, dtype=object)
            numbers = np.flatnonzero(ended_E)
            for i in numbers:
                final_E[i] = obs_ED[i].copy()
            begun, told = self.pool.reset(numbers.astype(np.int32))
            obs_ED[told["env_id"]] = _flat(begun)
            info |= {"final_obs": final_E, "_final_obs": ended_E}
        self._before_ED = obs_ED
        return obs_ED, reward_E, terminated_E, truncated_E, info

    def close_extras(self, **kwargs: Any) -> None:
        del kwargs
        self.pool = None  # its threads end with it


class Single(gym.Env[Any, Any]):
    """A pool of one, made anew for each seed."""

    def __init__(self, task: TaskSpec) -> None:
        self.task = task
        self.pool: Any = _make(task, [0], 1)
        self.observation_space = _seen(self.pool.observation_space)
        self.action_space = self.pool.action_space
        self._begun = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        if seed is not None or not self._begun:
            luck = int(self.np_random.integers(INT32)) if seed is None else seed
            self.pool = None  # the old one goes first: some take 20 MB
            self.pool, self._begun = _make(self.task, [luck], 1), True
        obs, info = self.pool.reset()
        return _flat(obs)[0], _first(_told(info))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.pool.step(np.asarray(action)[None])
        over = bool(terminated[0]), bool(truncated[0])
        return _flat(obs)[0], float(reward[0]), *over, _first(_told(info))

    def close(self) -> None:
        self.pool = None


def _make(task: TaskSpec, luck: Sequence[int], threads: int) -> Any:
    """Return EnvPool's pool of one environment for each number of *luck*."""
    _check(task)
    options = {
        "num_envs": len(luck),
        "num_threads": min(threads, len(luck)),
        "seed": [number % INT32 for number in luck],
    }
    try:
        pool = envpool.make_gymnasium(task.env, **options, **task.kwargs)
    except ImportError as error:
        raise SpecError(
            f"env must open on this machine, but EnvPool's {task.env} does not: {_line(error)}",
            "$.env",
        ) from error
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise _wrong_kwargs(task, error) from error
    with warnings.catch_warnings():  # kept by the pool; bounds lose digits, and Gymnasium says so
        warnings.simplefilter("ignore")
        _ = pool.observation_space, pool.action_space
    return pool


def _check(task: TaskSpec) -> None:
    """Refuse what EnvPool does not have, and what it cannot change."""
    known = envpool.list_all_envs()
    if task.env not in known:
        close = nearest(task.env, known)
        other = "; `envpool.list_all_envs()` names them, or use `engine: auto`"
        raise SpecError(
            f"env must be one that EnvPool has, but {task.env!r} is not"
            + (close if close.startswith("; did you mean") else other),
            "$.env",
        )
    for key in ("physics", "vary", "robot"):
        if getattr(task, key):
            raise SpecError(
                f"{key} must be for a Gymnasium environment, but engine is envpool, which "
                "cannot change it; use `engine: auto`, or see whether kwargs do the same",
                f"$.{key}",
            )
    if OURS & task.kwargs.keys():
        raise _wrong_kwargs(task, TypeError("they say how many there are"))


def _wrong_kwargs(task: TaskSpec, error: BaseException) -> SpecError:
    known = set(envpool.make_spec(task.env).config._fields) - OURS
    for key in task.kwargs:
        if key not in known:
            return SpecError(
                f"a key of kwargs must be one that EnvPool's {task.env} takes, but {key!r} is "
                f"not{nearest(key, known)}",
                f"$.kwargs.{key}",
            )
    return SpecError(
        f"kwargs must suit EnvPool's {task.env}, but do not: {_line(error)}; correct them",
        "$.kwargs",
    )


def _seen(space: Any) -> gym.Space[Any]:
    """Return the space of what an agent sees of EnvPool's *space*: a dictionary is laid flat."""
    if not isinstance(space, Mapping):
        seen: gym.Space[Any] = _unbounded(space) if isinstance(space, Box) else space
        return seen
    parts = _parts(space)
    if not all(isinstance(part, Box) for part in parts):
        raise SpecError(
            "env must be seen as numbers of one kind, but its observation is "
            f"{' '.join(str(space).split())}; choose another, or use `engine: auto`",
            "$.env",
        )
    size = sum(math.prod(part.shape) for part in parts)
    kind: Any = np.result_type(*(part.dtype for part in parts)).type
    return Box(-np.inf, np.inf, (size,), kind)


def _unbounded(box: Box) -> Box:
    """Mend bounds that EnvPool writes as the least and the largest number of their kind."""
    kind: Any = box.dtype
    if kind.kind != "f":
        return box
    low = np.where(box.low == np.finfo(kind).tiny, -np.inf, box.low).astype(kind)
    high = np.where(box.high == np.finfo(kind).max, np.inf, box.high).astype(kind)
    return Box(low, high, box.shape, kind.type)


def _parts(space: Any) -> list[Any]:
    """Return the leaves of *space* in the order of `_flat`."""
    if not isinstance(space, Mapping):
        return [space]
    return [leaf for key in sorted(space) for leaf in _parts(space[key])]


def _flat(obs: Any) -> NDArray[Any]:
    """Return what EnvPool shows of its environments as one array; their axis is the first."""
    if not isinstance(obs, Mapping):
        array: NDArray[Any] = obs
        return array
    parts = [_flat(obs[key]) for key in sorted(obs)]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _told(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what EnvPool tells of its environments, without its own numbering."""
    return {key: value for key, value in info.items() if key not in {"env_id", "players"}}


def _first(info: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value[0] for key, value in info.items() if isinstance(value, np.ndarray)}


def _line(error: BaseException) -> str:
    """Return what *error* says, without pybind's list of signatures."""
    return " ".join(str(error).partition(" The following")[0].split())
