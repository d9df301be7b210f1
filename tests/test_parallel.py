"""Minibatches in shards, and how learners meet. Real processes: tests/slow/test_parallel.py."""

import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from hypothesis import given
from hypothesis import strategies as st

from conftest import tiny
from helpers.crews import Pool, threads
from helpers.learning import world
from rigorl import playable
from rigorl.agents import ppo
from rigorl.agents.ppo import PPO, Config
from rigorl.blocks import meeting, parallel
from rigorl.blocks.meeting import Meeting, address, attend, backend
from rigorl.blocks.shards import cut
from rigorl.contract import Crew, Progress, Span
from rigorl.errors import CrewError, SpecError
from rigorl.outside.in_process import Alone
from rigorl.tasks.world import World, WorldSpec

CPU = torch.device("cpu")
SMALL = {"n_steps": 32, "minibatch": 50, "epochs": 3, "hidden": (8,), "entropy_coef": 0.01}
"""Of 128 rows, minibatches of 50, 50 and 28: neither 3 nor 4 divides them all."""
every_env = pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
both_ways = pytest.mark.parametrize("backward", ["written", "autograd"])


def agent(place: World, **config: Any) -> PPO:
    envs = place.envs
    spaces = envs.single_observation_space, envs.single_action_space
    return ppo.make(Config(**{**SMALL, **config}), WorldSpec(*spaces, envs.num_envs, ()), 0)


def life(
    crew: Crew, env: str = "Pendulum-v1", stop: int = 512, **config: Any
) -> tuple[PPO, list[Progress]]:
    place = world(env)
    who = agent(place, **config)
    return who, list(who.learn(place, crew, Span(0, 0, stop)))


@pytest.fixture
def crew_of() -> Iterator[Callable[[int], Pool]]:
    crews: list[Pool] = []

    def crew_of_(size: int) -> Pool:
        crews.append(threads(size))
        return crews[-1]

    yield crew_of_
    for crew in crews:
        crew.close()


@given(st.integers(0, 40), st.integers(1, 9))
def test_shards_follow_each_other_and_differ_by_a_row_at_most(size: int, count: int) -> None:
    cuts = [cut(size, rank, count) for rank in range(count)]
    assert [row for start, stop in cuts for row in range(start, stop)] == list(range(size))
    sizes = [stop - start for start, stop in cuts]
    assert max(sizes) - min(sizes) <= 1


@every_env
@both_ways
@pytest.mark.parametrize("normalize_advantage", [True, False])
@pytest.mark.parametrize(("learners", "minibatch"), [(2, 50), (3, 50), (4, 127), (5, 42)])
def test_shards_learn_what_the_whole_does(
    env: str, backward: str, normalize_advantage: bool, learners: int, minibatch: int
) -> None:
    """Of 128 rows the last minibatch has 28, 1 or 2 in it: fewer than there are learners."""
    how = {
        "backward": backward,
        "normalize_advantage": normalize_advantage,
        "minibatch": minibatch,
        "epochs": 30,
    }
    whole, told = life(Alone(), env, 128, **how)
    ours, heard = life(Alone(), env, 128, **how, learners=learners)
    assert ours.updates == whole.updates >= 60
    np.testing.assert_allclose(ours.flat.weights, whole.flat.weights, atol=1e-5)
    for one, other in zip(heard, told, strict=True):
        assert one[:2] == other[:2]
        np.testing.assert_allclose(*([*p.metrics.values()] for p in (one, other)), atol=1e-4)


@every_env
@both_ways
@pytest.mark.parametrize("learners", [2, 3])
def test_side_by_side_they_learn_what_they_do_in_turns(
    env: str, backward: str, learners: int, crew_of: Callable[[int], Pool]
) -> None:
    crew = crew_of(learners - 1)
    how = {"backward": backward, "learners": learners, "target_kl": 1e-9}
    turns, told = life(Alone(), env, **how)
    ours, heard = life(crew, env, **how)
    assert heard == told
    assert torch.equal(ours.flat.weights, turns.flat.weights)
    assert all(
        torch.equal(*pair) for pair in zip(ours.learner.state(), turns.learner.state(), strict=True)
    )
    ends = [future.exception(0) for future in crew.futures]
    assert ends == [None] * 4 * (learners - 1)
    assert ours.updates == 12  # an epoch each, for target_kl ended all four rollouts


def test_at_a_safe_yield_the_crew_is_free_and_nothing_is_left(
    crew_of: Callable[[int], Pool],
) -> None:
    crew, place = crew_of(1), world("Pendulum-v1")
    lives = [agent(place, learners=2).learn(place, crew, Span(0, 0, 256)) for _ in range(3)]
    for _ in range(2):  # in lockstep, as the trials of a bundle
        for one in lives:
            assert next(p for p in one if p.safe)
            assert list(crew.map(abs, [-1])) == [1]  # an exam, say
    assert not torch.distributed.is_initialized()


def test_left_in_the_middle_the_followers_end(crew_of: Callable[[int], Pool]) -> None:
    crew, place = crew_of(2), world("Pendulum-v1")
    who = agent(place, learners=3)
    learner = who.learn(place, crew, Span(0, 0, 256))
    assert not next(iter(learner)).safe
    clock = time.monotonic()
    learner.close()  # type: ignore[attr-defined]
    assert list(crew.map(abs, [-1, -2])) == [1, 2]
    assert time.monotonic() - clock < parallel.GRACE / 2
    again = list(who.learn(place, crew, Span(0, 0, 256)))
    assert again[-1].step == 256


@pytest.mark.parametrize(("size", "refused"), [(1, True), (2, False), (0, False)])
def test_a_crew_that_is_too_small_is_refused_before_anything_is_played(
    size: int, refused: bool
) -> None:
    spec = tiny(
        arms={"a": {"agent": {"name": "ppo", "config": {"learners": 3}}}},
        placement={"crew": {"size": size}},
    )
    if not refused:
        assert playable.check(spec) == []
        return
    with pytest.raises(SpecError, match=r"learners is 3 and placement.crew.size 1; set") as error:
        playable.check(spec)
    assert error.value.at == "$.arms.a.agent.config.learners"


def test_a_crew_that_is_too_small_is_refused_where_it_is_met(
    crew_of: Callable[[int], Pool],
) -> None:
    with pytest.raises(SpecError, match=r"placement.crew.size to 2 or 0, or learners to 2"):
        life(crew_of(1), learners=3)


class Twice(Pool):
    """A crew that tries each item again, when the first one is already at work."""

    def __init__(self, size: int) -> None:
        super().__init__(size, threads(2 * size).executor)
        self.again: list[Future[Any]] = []

    def submit(self, function: Callable[[Any], Any], item: Any) -> "Future[Any]":
        first = super().submit(function, item)
        time.sleep(0.2)
        self.again.append(self.executor.submit(function, item))
        return first


def test_who_follows_a_second_time_is_sent_away_and_disturbs_nobody() -> None:
    crew = Twice(1)
    _, told = life(Alone(), learners=2)
    _, heard = life(crew, learners=2)
    assert heard == told
    for future in crew.again:
        with pytest.raises(CrewError, match="rank 1 has come before"):
            future.result(5)
    with pytest.raises(CrewError, match="must find its leader, but at"):  # who has left
        parallel.follow(crew.items[0])
    crew.close()


def test_who_takes_another_meeting_for_its_own_is_sent_away() -> None:
    one = Meeting(2)
    with pytest.raises(CrewError, match="or another one is there"):
        attend(one.place._replace(token="of-yesterday"), 1, CPU)  # noqa: S106
    one.close()


def test_a_follower_that_cannot_even_begin_ends_the_meeting_at_once() -> None:
    class Broken(Pool):
        def submit(self, function: Any, item: Any) -> "Future[Any]":
            future: Future[Any] = Future()
            future.set_exception(MemoryError("no room"))
            return future

    clock = time.monotonic()
    with pytest.raises(CrewError, match="rank 1 ended at once; rank 1: MemoryError: no room"):
        life(Broken(1, threads(1).executor), learners=2)
    assert time.monotonic() - clock < 5


@pytest.mark.parametrize("where", ["meeting", "work"])
def test_patience_ends(
    where: str, crew_of: Callable[[int], Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "PATIENCE", 0.5)
    monkeypatch.setattr(parallel, "GRACE", 0.1)
    let_go = threading.Event()

    def dawdle(*_: Any) -> None:
        let_go.wait()

    if where == "meeting":
        monkeypatch.setattr(parallel, "follow", dawdle)
    else:
        monkeypatch.setattr(parallel, "_follow", dawdle)
    with pytest.raises(CrewError, match=r"not all did in 0.5 s|was not: .*[Tt]imed? ?out"):
        life(crew_of(1), learners=2)
    let_go.set()


def test_an_exam_may_hold_up_the_leader_for_longer_than_anybody_has_patience(
    crew_of: Callable[[int], Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "PATIENCE", 0.5)
    place = world("Pendulum-v1")
    for progress in agent(place, learners=2).learn(place, crew_of(1), Span(0, 0, 128)):
        if progress.update == 1:
            time.sleep(1.0)
    assert progress.update == 9


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (["cpu", "cpu"], "gloo"),
        (["a", "b"], "nccl"),
        (["a", "a"], "gloo"),
        (["a", "cpu"], "gloo"),
    ],
)
def test_nccl_is_for_those_with_a_gpu_each(
    devices: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting.dist, "is_nccl_available", lambda: True)
    assert backend(devices) == expected
    monkeypatch.setattr(meeting.dist, "is_nccl_available", lambda: False)
    assert backend(devices) == "gloo"


def test_a_machine_knows_where_others_reach_it() -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection((address(), port), timeout=5).close()
    assert address(("127.0.0.1", 9)) == "127.0.0.1"


def test_what_a_follower_is_told_beforehand_holds_no_weights(
    crew_of: Callable[[int], Pool],
) -> None:
    crew = crew_of(1)
    life(crew, stop=128, learners=2, hidden=(256, 256))
    (item,) = crew.items
    assert len(pickle.dumps(item)) < 10_000
    assert isinstance(item.actor.space, Box)
