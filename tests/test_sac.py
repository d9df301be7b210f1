"""SAC, the agent. What every agent must keep is in test_agents.py, its blocks in test_soft.py."""

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete

from helpers.learning import learn, world
from rigorl import contract
from rigorl.agents import sac
from rigorl.agents.sac import SAC, Config
from rigorl.blocks.continual import ewc, replay
from rigorl.blocks.storage import load_groups
from rigorl.contract import Span, configure
from rigorl.errors import SpecError
from rigorl.outside.in_process import Alone
from rigorl.spec import AgentSpec
from rigorl.tasks.world import World, WorldSpec

SMALL = {"learning_starts": 8, "batch": 16, "hidden": (8,), "capacity": 64}


def agent(place: World, seed: int = 0, **config: Any) -> SAC:
    envs = place.envs
    spaces = envs.single_observation_space, envs.single_action_space
    return sac.make(
        Config(**{**SMALL, **config}), WorldSpec(*spaces, envs.num_envs, (place.task,)), seed
    )


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        (Dict(x=Box(0, 1)), Box(-1, 1), "sac must see a Box, but the observation is Dict"),
        (Box(0, 1), Discrete(2), "in a bounded Box of floats, but the action is Discrete.*ppo"),
        (Box(0, 1), Box(0, 9, dtype=np.int64), "but the action is Box.*; choose a task"),
        (Box(0, 1), Box(-np.inf, 1.0), "bounded.*bound them in the environment"),
    ],
)
def test_spaces_it_cannot_use_are_refused(observation: Any, action: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        sac.make(Config(), WorldSpec(observation, action, 1, ()), 0)


def test_a_replay_smaller_than_a_step_is_refused() -> None:
    with pytest.raises(SpecError, match=r"hold a step of all.*config.capacity"):
        sac.make(Config(capacity=3), WorldSpec(Box(0, 1), Box(-1, 1), 4, ()), 0)
    with pytest.raises(SpecError, match=r"of 20 bytes do not; lower it.*config.capacity"):
        sac.make(Config(capacity=10**14), WorldSpec(Box(0, 1), Box(-1, 1), 4, ()), 0)
    with pytest.raises(SpecError, match=r"target_entropy is nan; write one.*config.target_entropy"):
        configure(AgentSpec(name="sac", config={"target_entropy": math.nan}))


@pytest.mark.parametrize(
    ("config", "updates"),
    [
        ({}, 92),  # as many as steps, from the first step after learning_starts on
        ({"update_ratio": 0.25}, 23),
        ({"update_ratio": 3.0}, 276),
        ({"train_every": 7}, 92),
        ({"learning_starts": 0}, 100),
    ],
)
def test_it_updates_as_often_as_it_is_told(config: dict[str, Any], updates: int) -> None:
    place = world("Pendulum-v1", 2)
    seen = learn(agent(place, **config), place, 0, 99)
    assert seen[-1].update == updates
    assert (seen[-1].step, seen[-1].safe) == (99, True)
    made = [p for p in seen if p.metrics.keys() > {"critic_loss"}]
    assert [p.update for p in made] == list(range(1, updates + 1))
    assert all(np.isfinite(list(p.metrics.values())).all() for p in seen)


def test_it_remembers_where_a_time_limit_led_and_looks_beyond_it() -> None:
    place = world("Pendulum-v1", 1, max_episode_steps=5)
    who = agent(place)
    seen = learn(who, place, 0, 12)
    rows_TR = who.replay._rows(0, 12)
    obs_TD, reached_TD = rows_TR[:, :3], rows_TR[:, 4:7]
    follows = (obs_TD[1:] == reached_TD[:-1]).all(1)
    assert np.flatnonzero(~follows).tolist() == [4, 9]  # where another episode began
    assert not rows_TR[:, -1].any()  # a pendulum never falls
    # Speed is bounded and angles turn by at most 0.05 * 8: the true end is near what was before.
    assert np.abs(reached_TD[[4, 9]] - obs_TD[[4, 9]])[:, :2].max() < 0.45
    assert "train/return" in seen[-1].metrics


def test_it_remembers_what_was_terminal() -> None:
    place = world("InvertedPendulum-v5", num_envs=1)
    who = agent(place, learning_starts=1000)
    learn(who, place, 0, 60)
    rows_TR = who.replay._rows(0, 60)
    follows = (rows_TR[1:, :4] == rows_TR[:-1, 5:9]).all(1)
    np.testing.assert_array_equal(rows_TR[:-1, -1] == 1, ~follows)
    assert rows_TR[:, -1].any()
    assert np.abs(rows_TR[rows_TR[:, -1] == 1, 6]).min() > 0.2  # it falls at this angle


@pytest.mark.parametrize("config", [{}, {"update_ratio": 0.3, "train_every": 3}])
def test_taken_up_again_it_is_what_it_was(config: dict[str, Any], tmp_path: Path) -> None:
    whole = agent(world("Pendulum-v1", 2), **config)
    learn(whole, world("Pendulum-v1", 2), 0, 90)  # more than the replay holds
    whole.save(tmp_path)
    heir = agent(world("Pendulum-v1", 2), seed=5, **config)
    heir.load(tmp_path)
    assert learn(whole, world("Pendulum-v1", 2), 90, 140) == learn(
        heir, world("Pendulum-v1", 2), 90, 140
    )
    assert torch.equal(whole.soft.weights, heir.soft.weights)


def test_what_a_switch_forgets(tmp_path: Path) -> None:
    for reset in (False, True):
        place = world("Pendulum-v1", 2)
        who = agent(place, reset_replay_at_switch=reset, reset_optimizer_at_switch=reset)
        learn(who, place, 0, 20)
        learn(who, place, 10, 20, stage=1)  # taken up in the middle: no switch
        assert len(who.replay) == 30
        learner = who.learn(place, Alone(), Span(1, 0, 20))
        next(learner)
        assert len(who.replay) == (2 if reset else 32)
        assert who.soft.critic_adam.steps == (1 if reset else who.soft.updates)


def begin(who: SAC, place: World, stage: int) -> None:
    """Learn the first 20 of 40 steps, as if what comes then interrupted it."""
    learner = who.learn(place, Alone(), Span(stage, 0, 40))
    next(progress for progress in learner if progress.step == 20 and progress.safe)
    learner.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", [replay.Config(memory=30), ewc.Config()])
def test_taken_up_in_the_middle_of_a_task_all_of_it_is_learned(method: Any, tmp_path: Path) -> None:
    config = {"method": method, "method_on": "both"}
    whole = agent(world("Pendulum-v1", 2), **config)
    learn(whole, world("Pendulum-v1", 2), 0, 40)
    begin(whole, world("Pendulum-v1", 2), 1)
    whole.save(tmp_path)
    heir = agent(world("Pendulum-v1", 2), seed=0, **config)
    heir.load(tmp_path)
    kept = []
    for name, who in (("whole", whole), ("heir", heir)):
        learn(who, world("Pendulum-v1", 2), 20, 40, 1)
        (tmp_path / name).mkdir()
        who.save(tmp_path / name)
        kept.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert kept[0] == kept[1]


@pytest.mark.parametrize("reset", [True, False])
def test_of_a_task_that_ends_its_own_transitions_are_remembered(reset: bool) -> None:
    place = world("Pendulum-v1", 2)
    method = replay.Config(memory=30)
    who = agent(place, method=method, method_on="both", reset_replay_at_switch=reset)
    met: list[torch.Tensor] = []
    for stage, (since, added) in enumerate([(0, 40), (40, 80), (80, 120)]):  # of a ring of 64
        begin(who, place, stage)
        learn(who, place, 20, 40, stage)  # taken up in the middle: the same task
        met.append(torch.from_numpy(who.replay._rows(since, added).copy()))
        for taught, width in ((who.soft.taught_actor, 3), (who.soft.taught_critics, 4)):
            assert taught is not None
            memory = taught.method.state()
            for group, row_I in zip(memory["group"], memory["column0"], strict=True):
                assert (met[int(group)][:, :width] == row_I).all(1).any()
            counts = torch.bincount(memory["group"]).tolist()
            assert counts == [30 // (stage + 1)] * (stage + 1)


def test_a_task_shorter_than_a_study_is_remembered_whole() -> None:
    place = world("Pendulum-v1", 2)
    who = agent(place, method=replay.Config(memory=500))
    learn(who, place, 0, 50)
    assert who.soft.taught_actor is not None
    seen = who.soft.taught_actor.method.state()["column0"]
    assert sorted(seen.tolist()) == sorted(who.replay._rows(0, 50)[:, :3].tolist())


def test_what_is_saved_without_a_method_is_what_it_always_was(tmp_path: Path) -> None:
    place = world("Pendulum-v1", 2)
    kept = {}
    for name, more in (("plain", {}), ("ewc", {"method": ewc.Config(), "method_on": "both"})):
        who = agent(place, **more)
        learn(who, place, 0, 20)
        (tmp_path / name).mkdir()
        who.save(tmp_path / name)
        kept[name] = load_groups(tmp_path / name / "sac.safetensors").keys()
    assert kept["plain"] == {"nets", "actor", "critic", "temperature", "generators"}
    assert kept["ewc"] - kept["plain"] == {"task", "actor-method", "critic-method"}


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"name": "ewcc"}, "must be one that is known here, but 'ewcc' is not.*config.method.name"),
        ({"name": "ewc", "strenght": 1}, "did you mean 'strength'.*config.method"),
        ({"name": "lwf", "strength": -1.0}, "must be.*>= 0.0, but is -1.0.*method.strength"),
        ({"name": "ewc", "strength": math.nan}, "but is nan; correct it.*method.strength"),
        (
            {"name": "refresh", "base": {"name": "refresh"}},
            "but 'refresh' is not; choose one of agem.*method.base.name",
        ),
    ],
)
def test_a_method_that_is_not_there_is_refused(method: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        configure(AgentSpec(name="sac", config={"method": method}))


def test_its_method_is_among_its_settings() -> None:
    said = contract.settings("sac")["settings"]
    assert (said["method"], said["method_on"]) == ({"name": "finetune"}, "actor")


def test_the_number_of_threads_is_its_own() -> None:
    place = world("Pendulum-v1", 2)
    learn(agent(place, threads=2), place, 0, 20)
    assert torch.get_num_threads() == 1


def test_a_policy_stands_alone(tmp_path: Path) -> None:
    place = world("Pendulum-v1", 2)
    who = agent(place)
    learn(who, place, 0, 20)
    policy = who.policies()["sac"]
    obs = np.random.default_rng(0).normal(size=(16, 3))
    action = policy(obs)
    learn(who, place, 0, 20, stage=1)
    assert not np.array_equal(who.policies()["sac"](obs), action)
    policy.save(tmp_path)
    space = place.envs.single_action_space
    assert action.dtype == space.dtype
    assert all(space.contains(one) for one in action)
    for same in (
        policy,
        copy.deepcopy(policy),
        pickle.loads(pickle.dumps(policy)),  # noqa: S301
        sac.load_policy(tmp_path),
    ):
        np.testing.assert_array_equal(same(obs), action)


def test_a_loss_that_is_not_finite_is_told_at_once() -> None:
    place = world("Pendulum-v1", 2)
    who = agent(place)
    who.soft.weights[-1] = float("nan")  # of a critic
    seen = learn(who, place, 0, 20)
    assert np.isnan(next(p for p in seen if p.update == 1).metrics["critic_loss"])
