"""Learners of one trial in processes of their own, as a crew on Ray has them."""

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.crews import Pool, processes
from helpers.learning import world
from rigorl.agents import ppo
from rigorl.agents.ppo import PPO, Config
from rigorl.blocks.parallel import follow
from rigorl.contract import Crew, Progress, Span
from rigorl.errors import CrewError
from rigorl.outside.in_process import Alone
from rigorl.tasks.world import WorldSpec

SMALL = {"n_steps": 32, "minibatch": 50, "epochs": 2, "hidden": (64, 64), "entropy_coef": 0.01}
STOP = 384
AT_ONCE = 10.0
"""Seconds; far fewer than the patience with those who are merely slow."""


@pytest.fixture(scope="module")
def crew() -> Iterator[Pool]:
    crew = processes(2)
    yield crew
    crew.close()


def agent(env: str = "Pendulum-v1", **config: Any) -> PPO:
    envs = world(env).envs
    spaces = envs.single_observation_space, envs.single_action_space
    return ppo.make(Config(**{**SMALL, **config}), WorldSpec(*spaces, envs.num_envs, ()), 0)


def learn(who: PPO, crew: Crew, env: str, start: int = 0) -> Iterator[Progress]:
    return who.learn(world(env), crew, Span(0, start, STOP))


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("backward", ["written", "autograd"])
@pytest.mark.parametrize("learners", [2, 3])
def test_processes_learn_to_the_bit_what_one_does_in_turns(
    env: str, backward: str, learners: int, crew: Pool
) -> None:
    crew.items.clear()
    ours, turns, whole = (
        agent(env, backward=backward, learners=count) for count in (learners, learners, 1)
    )
    heard, told, _ = (
        list(learn(who, with_whom, env))
        for who, with_whom in ((ours, crew), (turns, Alone()), (whole, Alone()))
    )
    assert len(crew.items) == 3 * (learners - 1)
    assert heard == told
    assert all(map(torch.equal, ours.learner.state(), turns.learner.state()))
    np.testing.assert_allclose(ours.flat.weights, whole.flat.weights, atol=1e-5)


def test_closed_saved_and_taken_up_again_they_go_on_as_one_in_turns_does(
    crew: Pool, tmp_path: Path
) -> None:
    ends = []
    for who in (crew, Alone()):
        first = agent(learners=3)
        learner = learn(first, who, "Pendulum-v1")
        step = next(progress.step for progress in learner if progress.safe)
        learner.close()  # type: ignore[attr-defined]
        first.save(tmp_path)
        heir = agent(learners=3)
        heir.load(tmp_path)
        seen = list(learn(heir, who, "Pendulum-v1", step))
        ends.append((seen, heir.flat.weights.tolist()))
    assert ends[0] == ends[1]


def test_left_in_the_middle_the_processes_are_free_again(crew: Pool) -> None:
    learner = learn(agent(learners=3), crew, "Pendulum-v1")
    assert not next(learner).safe
    learner.close()  # type: ignore[attr-defined]
    clock = time.monotonic()
    assert list(crew.map(abs, [-1, -2])) == [1, 2]
    assert time.monotonic() - clock < AT_ONCE


def test_a_follower_that_is_killed_ends_the_rollout_at_once() -> None:
    crew = processes(1)
    (pid,) = crew.map(_pid, [0])
    learner = learn(agent(learners=2), crew, "Pendulum-v1")
    assert not next(learner).safe
    os.kill(pid, signal.SIGKILL)
    clock = time.monotonic()
    with pytest.raises(CrewError, match=r"but one was not: .*; rank 1: BrokenProcessPool"):
        list(learner)
    assert time.monotonic() - clock < AT_ONCE
    crew.close()


class Posted:
    """A crew whose items are left at a place, for others to find."""

    def __init__(self, folder: Path) -> None:
        self.size, self.folder = 1, folder

    def share(self, value: Any) -> Any:
        return value

    def submit(self, function: Callable[[Any], Any], item: Any) -> "Future[Any]":
        (self.folder / "draft").write_bytes(pickle.dumps(item))
        (self.folder / "draft").rename(self.folder / "item")
        return Future()

    def map(self, function: Any, items: Any) -> Any:
        raise NotImplementedError


def test_a_leader_that_is_killed_lets_its_followers_go_at_once(tmp_path: Path) -> None:
    leader = multiprocessing.get_context("spawn").Process(target=_lead, args=(tmp_path,))
    leader.start()
    with ThreadPoolExecutor() as threads:
        _wait_for(tmp_path / "item")
        item = pickle.loads((tmp_path / "item").read_bytes())  # noqa: S301
        following = threads.submit(follow, item)
        _wait_for(tmp_path / "learning")
        leader.kill()
        with pytest.raises(CrewError, match="but one was not"):
            following.result(AT_ONCE)
    with pytest.raises(CrewError, match="must find its leader"):
        follow(item)
    leader.join()


def _lead(folder: Path) -> None:
    for _ in learn(agent(learners=2), Posted(folder), "Pendulum-v1"):
        (folder / "learning").touch()
        time.sleep(60)


def _pid(_: int) -> int:
    return os.getpid()


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, path
        time.sleep(0.02)
