"""Policy + task + seeds -> returns."""

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import gymnasium as gym
import msgspec
import numpy as np
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.typing import NDArray

from rigorl.errors import TrialFailed
from rigorl.seeds import integer
from rigorl.spec import Budget, TaskSpec
from rigorl.tasks.envs import open_env
from rigorl.tasks.world import Policy

CHUNK = 16
"""Episodes played side by side, and the rows of every batch that a policy sees in an exam,
however many episodes are asked for or still run. Inference on 1-3 rows differs from that on
more in the last bits, and a score must not depend on who else is being examined."""


class Exam(NamedTuple):
    """An exam to be taken, here or in another process. Complete in itself.

    Episodes are told apart by their seeds alone, so policies examined with the same seeds
    face the same luck. `horizon` caps an episode's length.
    """

    task: TaskSpec
    policy: Policy
    seeds: tuple[int, ...]
    horizon: int | None = None


def order(task: TaskSpec, policy: Policy, budget: Budget, seed: int) -> Exam:
    """Return the exam of *policy* in a trial with root *seed*. It depends on nothing else."""
    episodes = range(budget.exam_episodes)
    luck = tuple(integer(seed, "exam", task.name, episode) for episode in episodes)
    return Exam(task=task, policy=policy, seeds=luck, horizon=budget.exam_horizon)


def examine(exam: Exam) -> NDArray[np.float64]:
    """Return returns_EO: the undiscounted sum of rewards, episode x objective.

    Each chunk of episodes meets a fresh copy of the policy: taken again, an exam ends the
    same, and no episode depends on those of another chunk. An environment must be as new
    after `reset(seed=...)`. Raises `TrialFailed` when a reward is not finite.
    """
    with _opened(exam.task, min(CHUNK, len(exam.seeds))) as envs:
        return np.concatenate(
            [_play(exam, envs, start) for start in range(0, len(exam.seeds), CHUNK)]
        )


def _play(exam: Exam, envs: Sequence[gym.Env[Any, Any]], start: int) -> NDArray[np.float64]:
    policy, episodes = copy.deepcopy(exam.policy), exam.seeds[start : start + CHUNK]
    obs = [env.reset(seed=seed)[0] for env, seed in zip(envs, episodes, strict=False)]
    obs += [obs[0]] * (CHUNK - len(obs))
    action_space = batch_space(envs[0].action_space, CHUNK)
    returns: list[NDArray[np.float64]] = [np.zeros(1) for _ in episodes]
    running, step = list(range(len(episodes))), 0
    while running and step != exam.horizon:
        actions = list(iterate(action_space, policy(_batch(envs[0].observation_space, obs))))
        step += 1
        for i in tuple(running):
            obs[i], reward, terminated, truncated, _ = envs[i].step(actions[i])
            returns[i] = returns[i] + np.atleast_1d(np.asarray(reward, dtype=np.float64))
            if not np.isfinite(returns[i]).all():
                raise TrialFailed(
                    f"reward must be finite, but is {reward} at step {step} of exam episode "
                    f"{start + i} on task {exam.task.name!r}; tame the policy or the physics"
                )
            if terminated or truncated:
                running.remove(i)
    return np.stack(returns)


def _batch(space: gym.Space[Any], obs: Sequence[Any]) -> Any:
    return concatenate(space, obs, create_empty_array(space, n=len(obs)))


@contextmanager
def _opened(task: TaskSpec, count: int) -> Iterator[Sequence[gym.Env[Any, Any]]]:
    """Lend environments of *task*: Gymnasium's own are kept for the next exam.

    MuJoCo and classic control are, after `reset(seed=...)`, as new to the bit (tested); to
    open ten takes 40 ms, as long as many an exam. Of others we do not know.
    """
    spec = gym.registry.get(task.env)
    ours = ("gymnasium.envs.mujoco", "gymnasium.envs.classic_control")
    if spec and not spec.additional_wrappers and str(spec.entry_point).startswith(ours):
        envs = _kept(msgspec.json.encode(task, order="deterministic"), threading.get_ident())
        envs.extend(open_env(task) for _ in range(count - len(envs)))
        yield envs[:count]
        return
    with ExitStack() as stack:
        yield [stack.enter_context(closing(open_env(task))) for _ in range(count)]


@lru_cache(maxsize=8)
def _kept(task: bytes, thread: int) -> list[gym.Env[Any, Any]]:  # noqa: ARG001
    """Return the environments that this thread keeps for *task*, at first none."""
    return []
