"""TaskSpec -> environments, world specs and worlds."""

import copy
import importlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rigorl import seeds
from rigorl.errors import SpecError, nearest
from rigorl.spec import TaskSpec
from rigorl.tasks import examples, linear, own, port
from rigorl.tasks.physics import alter, is_rejected
from rigorl.tasks.robots.batched import BatchedMujoco
from rigorl.tasks.robots.known import covers
from rigorl.tasks.systems import Systems
from rigorl.tasks.variation import Variation, Varied, ends
from rigorl.tasks.watch import Believed, Watch, is_finite
from rigorl.tasks.world import DIVERGED, Envs, Policy, Tally, World, WorldSpec

REFUSED = TypeError, ValueError, ArithmeticError, AssertionError, OSError, gym.error.Error
"""What environments raise when they are made with what does not suit them."""
SHARED = "observation space", "action space", "size of a disturbance"


def open_env(task: TaskSpec) -> gym.Env[Any, Any]:
    """Open one environment of *task*. Its address in a `SpecError` is as in `$.env`."""
    if task.engine == "envpool":
        single: gym.Env[Any, Any] = _pools().open_single(task)
        return Believed(single)
    env = Believed(_make(task))
    return Varied(env, task) if task.vary else env


def _make(task: TaskSpec) -> gym.Env[Any, Any]:
    """Return Gymnasium's environment, its physics altered."""
    _check_id(task.env)
    kwargs = own.kwargs(task)
    try:
        # Gymnasium's checker only prints; `try_out` refuses, and `Believed` ends the episode.
        env = gym.make(task.env, **{"disable_env_checker": True, **kwargs})
    except (ImportError, gym.error.DependencyNotInstalled) as error:
        raise SpecError(
            f"env must open on this machine, but {task.env} does not: {_line(error)}; "
            "install what it misses, or choose another version",
            "$.env",
        ) from error
    except REFUSED as error:
        raise _wrong_kwargs(task, error) from error
    try:
        alter(env, task.physics, "physics")
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


def _spec(task: TaskSpec) -> EnvSpec:
    return gym.registry[task.env.rpartition(":")[2]]


def _wrong_kwargs(task: TaskSpec, error: BaseException) -> SpecError:
    known = own.parameters(_spec(task).entry_point)
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


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def open_envs(
    task: TaskSpec, num_envs: int, seed: int, *, threads: int = 1, tally: Tally | None = None
) -> Envs:
    """Open *num_envs* environments of *task*, already seeded: `reset()` needs no seed.

    Each has a stream of its own, the same however many stand beside it. What happens does not
    depend on *threads*. Episodes are counted in *tally*.
    """
    if task.engine == "envpool":
        envs = _pools().open_pool(task, num_envs, seed, threads)
    else:
        envs = open_batch(task, num_envs, threads, AutoresetMode.SAME_STEP)
        if envs is None:
            envs = SyncVectorEnv(
                [partial(open_env, task)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP
            )
        envs.reset(seed=[seeds.integer(seed, "env", i) for i in range(num_envs)])
        envs.action_space.seed(seeds.integer(seed, "action"))
    return Watch(envs, task, Tally() if tally is None else tally)


def open_batch(
    task: TaskSpec, num_envs: int, threads: int, autoreset: AutoresetMode
) -> BatchedMujoco | Systems | None:
    """Open our own simulations of *task*, where it is one that we have and are to use."""
    _check_id(task.env)
    if _spec(task).entry_point == linear.ENTRY:
        return Systems(_make(task), num_envs, autoreset_mode=autoreset)
    known = str(_spec(task).entry_point).startswith("gymnasium.envs.mujoco")
    if task.engine != "auto" or not known:
        return None
    env: Any = _make(task)
    if not covers(env):
        env.close()
        return None
    models = [copy.deepcopy(env.unwrapped.model) for _ in range(num_envs)] if task.vary else None
    variations = [Variation(model, task) for model in models or ()]
    return BatchedMujoco(
        env,
        num_envs,
        threads=threads,
        models=models,
        variations=variations,
        autoreset_mode=autoreset,
    )


def try_out(tasks: Sequence[TaskSpec]) -> None:
    """Play each of *tasks* for a step; refuse what changes its spaces, or comes apart."""
    for i, task in enumerate(tasks):
        try:
            open_env(task).close()  # type: ignore[no-untyped-call]
            for end in ends(task):
                with closing(open_env(end)) as env, own.fitting(task):
                    _try_out(env, task)
        except SpecError as error:
            raise error.below(f"$.tasks[{i}]") from error


def rewards(task: TaskSpec) -> int:
    """Return how many rewards a step of *task* earns."""
    with closing(open_env(task)) as env:
        env.action_space.seed(0)
        env.reset(seed=0)
        reward: Any = env.step(env.action_space.sample())[1]
        return int(np.size(reward))


def _try_out(env: gym.Env[Any, Any], task: TaskSpec) -> None:
    spaces = env.observation_space, env.action_space
    env.action_space.seed(0)
    for step in ("reset", "step"):
        if step == "reset":
            obs, info = env.reset(seed=0)
        else:
            obs, *_, info = env.step(env.action_space.sample())
        now = env.observation_space, env.action_space
        if now != spaces or not _fits(obs, spaces[0]):
            raise SpecError(
                f"env must keep to its spaces, but {task.env} said that it sees {spaces[0]} and "
                f"does {spaces[1]}, and after a {step} says {now[0]}, {now[1]} and shows "
                f"{_made(obs)}; mend it",
                "$.env",
            )
        if DIVERGED in info or not is_finite(obs) or is_rejected(env):
            at = "vary" if task.vary else "physics" if task.physics else "env"
            raise SpecError(
                f"{at} must be such that an episode can go on, but at the first {step} of "
                f"{task.env} a number is not finite, or a body has no inertia; "
                + ("mend it" if at == "env" else "use less extreme values"),
                f"$.{at}",
            )


def _fits(obs: Any, space: gym.Space[Any]) -> bool:
    """Say whether *obs* is made as *space* says; the bounds of a Box are often a mere wish."""
    match space:
        case gym.spaces.Box():
            return bool(np.shape(obs) == space.shape)
        case gym.spaces.Dict():
            same = isinstance(obs, Mapping) and obs.keys() == space.keys()
            return same and all(_fits(obs[key], space[key]) for key in space)
        case gym.spaces.Tuple():
            same = isinstance(obs, tuple | list) and len(obs) == len(space)
            return same and all(map(_fits, obs, space))
        case _:
            return bool(space.contains(obs))


def _made(obs: Any) -> str:
    """Say how *obs* is made."""
    if isinstance(obs, Mapping):
        return f"{{{', '.join(f'{key}: {_made(part)}' for key, part in obs.items())}}}"
    if isinstance(obs, tuple):
        return f"({', '.join(map(_made, obs))})"
    return f"an array of shape {np.shape(obs)}"


def world_spec(tasks: Sequence[TaskSpec], num_envs: int) -> WorldSpec:
    """Open each of *tasks* for a moment, and return what an agent is told of them."""
    seen: list[tuple[gym.Space[Any], gym.Space[Any], int]] = []
    for i, task in enumerate(tasks):
        try:
            with closing(open_env(task)) as env:
                seen.append((env.observation_space, env.action_space, port.forces(task, env)))
            if task.dataset is not None:
                _datasets().check(task.dataset)
        except SpecError as error:
            raise error.below(f"$.tasks[{i}]") from error
        for kind, first, here in zip(SHARED, seen[0], seen[i], strict=True):
            if here != first:
                raise SpecError(
                    f"tasks must share their {kind}, but {tasks[0].name!r} has {first} "
                    f"and {task.name!r} has {here}; leave one of them to another experiment",
                    f"$.tasks[{i}]",
                )
    known = all(map(examples.is_supervised, tasks))
    obs, action, forces = seen[0]
    return WorldSpec(obs, action, num_envs, tuple(tasks), examples=known, forces=forces)


def open_world(
    task: TaskSpec,
    num_envs: int,
    seed: int,
    given: Mapping[str, Policy],
    *,
    threads: int = 1,
    tally: Tally | None = None,
) -> World:
    """Open all that an agent learns *task* from."""
    dataset = None if task.dataset is None else _datasets().load(task.dataset)
    supervised = examples.opened(task)
    envs = open_envs(task, num_envs, seed, threads=threads, tally=tally)
    known = None if supervised is None else supervised.examples
    return World(task, envs, dataset, given, known, port.opened(task, envs))


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
