"""Policy + task + seeds -> returns."""

import copy
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import msgspec
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.typing import NDArray

from rigorl.errors import TrialFailed
from rigorl.seeds import integer
from rigorl.spec import Budget, TaskSpec
from rigorl.tasks import examples, linear
from rigorl.tasks import port as ports
from rigorl.tasks.envs import open_batch, open_env
from rigorl.tasks.gauge import Gauge, Strain
from rigorl.tasks.robots.batched import BatchedMujoco
from rigorl.tasks.systems import Systems
from rigorl.tasks.watch import is_finite
from rigorl.tasks.world import DIVERGED, Policy, Pusher

CHUNK = 16
"""Episodes played side by side, and the rows of every batch that a policy sees in an exam,
however many episodes are asked for or still run. Inference on 1-3 rows differs from that on
more in the last bits, and a score must not depend on who else is being examined."""


class Exam(NamedTuple):
    """An exam to be taken, here or in another process. Complete in itself.

    Episodes are told apart by their seeds alone, so policies examined with the same seeds
    face the same luck. `horizon` caps an episode's length. What comes of it does not depend
    on `threads`.
    """

    task: TaskSpec
    policy: Policy
    seeds: tuple[int, ...]
    horizon: int | None = None
    threads: int = 1


class Result(NamedTuple):
    """`returns_EO` is the undiscounted sum of rewards, episode x objective.

    An episode in which the simulation diverged ended there, with what it had earned before.
    `strain` is what came of the task's port, if it has one.
    """

    returns_EO: NDArray[np.float64]
    diverged: int
    strain: tuple[Strain, ...] = ()


def order(task: TaskSpec, policy: Policy, budget: Budget, seed: int) -> Exam:
    """Return the exam of *policy* in a trial with root *seed*. It depends on nothing else."""
    episodes = range(budget.exam_episodes)
    luck = tuple(integer(seed, "exam", task.name, episode) for episode in episodes)
    mine = examples.drawn(task, seed)
    return Exam(mine, policy, luck, budget.exam_horizon, threads=budget.threads)


def examine(exam: Exam) -> Result:
    """Play the episodes of *exam*, a chunk at a time.

    Each chunk meets a fresh copy of the policy: taken again, an exam ends the same, and no
    episode depends on those of another chunk. An environment must be as new after
    `reset(seed=...)`. Raises `TrialFailed` when an action is not finite.

    Of a task of labelled examples all are asked that were held out, as one episode: its return
    is the share of right answers.
    """
    supervised = examples.opened(exam.task)
    if supervised is not None:
        return _mark(exam.policy, supervised)
    results = []
    for start in range(0, len(exam.seeds), CHUNK):
        episodes = exam.seeds[start : start + CHUNK]
        with opened(exam.task, len(episodes), exam.threads) as room:
            results.append(_to_its_end(play(exam, room, episodes)))
    return Result(
        np.concatenate([result.returns_EO for result in results]),
        sum(result.diverged for result in results),
        tuple(strain for result in results for strain in result.strain),
    )


def _mark(policy: Policy, task: examples.Supervised) -> Result:
    input_ND, label_N = task.held_out
    count, rest = len(label_N), -len(label_N) % CHUNK
    policy = copy.deepcopy(policy)
    blocks = np.concatenate([input_ND, input_ND[:1].repeat(rest, 0)]).reshape(
        -1, CHUNK, *input_ND.shape[1:]
    )
    answer_N = np.concatenate([policy(block) for block in blocks])[:count]
    return Result(np.array([[np.mean(answer_N == label_N)]]), 0)


def _to_its_end(steps: Generator[Any, None, Result]) -> Result:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


def play(
    exam: Exam, room: "Room", episodes: Sequence[int]
) -> Generator[tuple["Taken", Gauge | None], None, Result]:
    """Play *episodes* of *exam*, at most a chunk, side by side; yield after each step."""
    policy, diverged, step = copy.deepcopy(exam.policy), 0, 0
    returns_EO: NDArray[np.float64] = np.zeros((len(episodes), 1))
    obs, gauge = room.reset(episodes), _gauge(exam, room, len(episodes))
    while room.running and step != exam.horizon:
        rows = _batch(room.space, obs)
        if gauge is not None:
            gauge.push(policy, rows)
        actions = policy(rows)
        if not is_finite(actions):
            raise TrialFailed(
                f"actions must be finite, but are not at step {step + 1} of an exam on task "
                f"{exam.task.name!r}; the policy has diverged: lower its learning rate"
            )
        taken, step = room.step(actions), step + 1
        obs = taken.obs
        returns_EO = returns_EO + taken.reward_EO
        diverged += taken.diverged
        if gauge is not None:
            gauge.read(taken.reward_EO[:, 0], taken.terminated_E, taken.over_E)
        yield taken, gauge
    return Result(returns_EO, diverged, gauge.strain if gauge else ())


def _gauge(exam: Exam, room: "Room", count: int) -> Gauge | None:
    """Return what reads the episodes of a task with a port; None where there is none."""
    spec, port = exam.task.port, ports.opened(exam.task, room.envs)
    if spec is None or port is None:
        if isinstance(exam.policy, Pusher):
            raise TrialFailed(
                f"a policy must have a port to push, but task {exam.task.name!r} has none; give it "
                "`port`"
            )
        return None
    return Gauge(spec, port, count)


def _batch(space: gym.Space[Any], obs: Sequence[Any]) -> Any:
    rows = [*obs, *[obs[0]] * (CHUNK - len(obs))]
    return concatenate(space, rows, create_empty_array(space, n=CHUNK))


class Taken(NamedTuple):
    """A step that all running episodes have taken. The others earn nothing."""

    obs: Sequence[Any]
    reward_EO: NDArray[np.float64]
    diverged: int
    terminated_E: NDArray[np.bool_]
    over_E: NDArray[np.bool_]
    """Which are over by now, or were before."""


class Room(Protocol):
    """Where episodes are played side by side until each has ended."""

    space: gym.Space[Any]
    envs: Any

    @property
    def running(self) -> bool: ...

    def reset(self, seeds: Sequence[int]) -> Sequence[Any]: ...

    def step(self, actions: Any) -> Taken:
        """Take the step; *actions* may be more than there are episodes."""


class OneByOne:
    """Environments of any kind, in a loop."""

    def __init__(self, envs: Sequence[gym.Env[Any, Any]]) -> None:
        self.envs, self.space = envs, envs[0].observation_space
        self._action_space = batch_space(envs[0].action_space, CHUNK)
        self._obs: list[Any] = []
        self._running: list[int] = []

    @property
    def running(self) -> bool:
        return bool(self._running)

    def reset(self, seeds: Sequence[int]) -> Sequence[Any]:
        self._running = list(range(len(seeds)))
        self._obs = [env.reset(seed=seed)[0] for env, seed in zip(self.envs, seeds, strict=True)]
        return self._obs

    def step(self, actions: Any) -> Taken:
        told, diverged = list(iterate(self._action_space, actions)), 0
        rewards: list[NDArray[np.float64]] = [np.zeros(1)] * len(self.envs)
        terminated_E = np.zeros(len(self.envs), np.bool_)
        for i in tuple(self._running):
            self._obs[i], reward, terminated, truncated, info = self.envs[i].step(told[i])
            rewards[i] = np.atleast_1d(np.asarray(reward, dtype=np.float64))
            diverged += DIVERGED in info
            terminated_E[i] = terminated
            if terminated or truncated:
                self._running.remove(i)
        over_E = np.array([i not in self._running for i in range(len(self.envs))])
        reward_EO = np.stack(np.broadcast_arrays(*rewards))
        return Taken(self._obs, reward_EO, diverged, terminated_E, over_E)


class Together:
    """Our own simulations, as a batch."""

    def __init__(self, envs: BatchedMujoco | Systems) -> None:
        self.envs, self.space = envs, envs.single_observation_space
        self._running_E = np.zeros(envs.num_envs, np.bool_)

    @property
    def running(self) -> bool:
        return bool(self._running_E.any())

    def reset(self, seeds: Sequence[int]) -> Sequence[Any]:
        self._running_E[:] = True
        return list(self.envs.reset(seed=list(seeds))[0])

    def step(self, actions: Any) -> Taken:
        obs_ED, reward_E, terminated_E, truncated_E, info = self.envs.step(
            actions[: self.envs.num_envs]
        )
        self._running_E &= ~(terminated_E | truncated_E)
        diverged = np.count_nonzero(info.get(DIVERGED, False))
        over_E = ~self._running_E
        return Taken(list(obs_ED), reward_E[:, None], int(diverged), terminated_E, over_E)


@contextmanager
def opened(task: TaskSpec, count: int, threads: int) -> Iterator[Room]:
    """Lend a room for *count* episodes of *task*: our own and Gymnasium's are kept.

    They are, after `reset(seed=...)`, as new to the bit (tested); to open ten takes 40 ms, as
    long as many an exam. Of others we do not know.
    """
    spec = gym.registry.get(task.env)
    known = ("gymnasium.envs.mujoco", "gymnasium.envs.classic_control", linear.ENTRY)
    if (
        task.engine != "envpool"
        and spec
        and not spec.additional_wrappers
        and str(spec.entry_point).startswith(known)
    ):
        text = msgspec.msgpack.encode(task, order="deterministic")
        yield _kept(text, count, threads, threading.get_ident())
        return
    with ExitStack() as stack:
        yield OneByOne([stack.enter_context(closing(open_env(task))) for _ in range(count)])


@lru_cache(maxsize=32)
def _kept(task: bytes, count: int, threads: int, thread: int) -> Room:  # noqa: ARG001
    """Return the room that this thread keeps for *task*."""
    spec = msgspec.msgpack.decode(task, type=TaskSpec)
    batch = open_batch(spec, count, threads, AutoresetMode.DISABLED)
    return OneByOne([open_env(spec) for _ in range(count)]) if batch is None else Together(batch)
