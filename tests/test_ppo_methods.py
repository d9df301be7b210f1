"""PPO and the methods against forgetting. What the methods are is in test_continual_methods.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from helpers.learning import learn, world
from helpers.trials import encoded, until_saved
from rigorl import accounts, contract
from rigorl.agents import ppo
from rigorl.agents.ppo import PPO, Config
from rigorl.blocks.continual import Chosen, ewc, finetune, replay
from rigorl.contract import configure
from rigorl.errors import SpecError
from rigorl.lockstep import play
from rigorl.outside.in_process import Alone
from rigorl.spec import AgentSpec, Budget, Physics, TaskSpec
from rigorl.tasks.world import World, WorldSpec
from rigorl.trial import Bundle, Trial

SMALL: dict[str, Any] = {"n_steps": 16, "minibatch": 48, "epochs": 2, "hidden": (8,), "lr": 3e-3}
METHODS: dict[str, dict[str, Any]] = {
    "replay": {"memory": 20, "batch": 8},
    "ewc": {"strength": 1e3},
    "si": {"strength": 10.0},
    "lwf": {},
    "agem": {"memory": 20, "batch": 8},
    "steady": {"memory": 20, "batch": 8},
    "refresh": {"base": {"name": "replay", "memory": 20, "batch": 8}},
}
every_method = pytest.mark.parametrize("name", METHODS)
both_worlds = pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])


def settings(name: str, **others: Any) -> dict[str, Any]:
    return {**SMALL, "method": {"name": name, **METHODS.get(name, {}), **others}}


def agent(place: World, **config: Any) -> PPO:
    envs = place.envs
    spec = WorldSpec(
        envs.single_observation_space, envs.single_action_space, envs.num_envs, (place.task,)
    )
    typed = configure(AgentSpec(name="ppo", config={**SMALL, **config}))
    assert isinstance(typed, Config)
    return ppo.make(typed, spec, 0)


def lived(env: str, stages: int = 2, steps: int = 128, **config: Any) -> PPO:
    """Return an agent that has learned so many tasks."""
    who = agent(world(env), **config)
    for stage in range(stages):
        learn(who, world(env, seed=stage), 0, steps, stage)
    return who


def weights(who: PPO) -> bytes:
    return who.flat.weights.numpy().tobytes()


def taught(who: PPO) -> Any:
    assert who.taught
    return who.taught


# What must not change anything.


@pytest.mark.parametrize(
    ("method", "base"),
    [
        ({"name": "ewc", "strength": 0.0}, {"name": "finetune"}),
        ({"name": "si", "strength": 0.0}, {"name": "finetune"}),
        ({"name": "lwf", "strength": 0.0}, {"name": "finetune"}),
        ({"name": "refresh", "base": {"name": "finetune"}, "gamma": 0.0}, {"name": "finetune"}),
        *(
            (
                {"name": "refresh", "gamma": 0.0, "base": {"name": name, **METHODS[name]}},
                {"name": name, **METHODS[name]},
            )
            for name in ("replay", "ewc", "si", "lwf", "agem")
        ),
    ],
    ids=lambda setting: f"{setting['name']}-{setting.get('base', setting)['name']}",
)
def test_a_method_that_does_nothing_is_its_base_bit_for_bit(
    method: dict[str, Any], base: dict[str, Any]
) -> None:
    assert weights(lived("Pendulum-v1", method=method)) == weights(
        lived("Pendulum-v1", method=base)
    )


@every_method
def test_before_the_first_switch_a_method_is_fine_tuning(name: str) -> None:
    once = {"gamma": 0.0} if name == "refresh" else {}
    method = {"name": name, **METHODS[name], **once}
    plain = weights(lived("CartPole-v1", 1))
    assert weights(lived("CartPole-v1", 1, method=method)) == plain


@every_method
@both_worlds
def test_after_a_switch_it_is_not(name: str, env: str) -> None:
    assert weights(lived(env, **settings(name))) != weights(lived(env))


def test_fine_tuning_keeps_neither_a_student_nor_rollouts() -> None:
    assert agent(world("CartPole-v1")).taught is None
    assert Config().method == finetune.Config()


# What is remembered, and what comes of it.


@both_worlds
@pytest.mark.parametrize("backward", ["written", "autograd"])
def test_what_is_remembered_is_what_was_seen_and_answered(env: str, backward: str) -> None:
    who = lived(env, 1, **settings("replay", memory=1000), backward=backward)
    method = taught(who).method
    seen_ND, *told = method.memory.rows
    assert len(seen_ND) == 128  # two rollouts of 16 steps, 4 environments
    assert set(method.memory.group_N.tolist()) == {0}
    obs_ND = who.obs_scale(seen_ND.numpy())
    assert seen_ND.abs().max() > 0.1
    value_N = torch.from_numpy(who.net.value(obs_ND))
    torch.testing.assert_close(told[-1], value_N, rtol=1e-4, atol=1e-5)
    said = who.actor.describe(torch.from_numpy(obs_ND))
    for ours, reference in zip(told[:-1], said, strict=True):
        torch.testing.assert_close(ours, reference.detach(), rtol=1e-4, atol=1e-5)


def test_groups_are_stages_and_share_the_memory() -> None:
    memory = taught(lived("CartPole-v1", 3, **settings("replay"))).method.memory
    assert torch.bincount(memory.group_N).tolist() == [6, 6, 6]


def divergence(who: PPO, rows: Any) -> float:
    seen_ND, *told = rows
    return who.net.recall(who.obs_scale(seen_ND.numpy()), [part.numpy() for part in told])


@both_worlds
@pytest.mark.parametrize("name", ["replay", "agem", "lwf", "ewc"])
def test_a_method_keeps_the_answers_on_what_was_seen(name: str, env: str) -> None:
    """On a second task of which the observations are others."""
    drift = {}
    for method in (name, "finetune"):
        others = {"strength": 1e4} if method == "ewc" else {"strength": 10.0}
        extra = others if method in {"ewc", "lwf"} else {}
        what = {"memory": 64, "batch": 64} if method in {"replay", "agem"} else {}
        who = lived(env, 1, **settings(method, **extra, **what), keep_obs_scale=True)
        seen = np.random.default_rng(0).normal(size=(200, who.obs_scale.moments.mean_D.size))
        rows = (
            torch.from_numpy(seen),
            *map(torch.from_numpy, who.net.answers(who.obs_scale(seen))),
        )
        if method in {"replay", "agem"}:
            rows = taught(who).method.memory.rows
        learn(who, world(env, seed=7), 0, 1024, stage=1)
        drift[method] = divergence(who, rows)
    assert drift[name] < 0.7 * drift["finetune"]


@both_worlds
def test_where_the_scale_has_moved_the_networks_are_asked_with_that_of_now(env: str) -> None:
    """So it is what an exam will ask: the raw observation, through the scale of the policy."""
    who = lived(env, 1, **settings("replay"))
    rows = taught(who).method.memory.rows
    assert divergence(who, rows) < 1e-6
    who.obs_scale.moments.mean_D = who.obs_scale.moments.mean_D + 1.0
    moved = divergence(who, rows)
    assert moved > 1e-3
    grad_P = taught(who).student.recall(rows).clone()
    who.flat.weights.sub_(grad_P, alpha=1e-2)
    assert divergence(who, rows) < moved


@pytest.mark.parametrize("keep", [True, False])
def test_the_scale_of_observations_may_stay_that_of_the_first_task(keep: bool) -> None:
    who = agent(world("CartPole-v1"), keep_obs_scale=keep)
    counts = []
    for stage, start in ((0, 0), (0, 64), (1, 0), (1, 64)):
        learn(who, world("CartPole-v1"), start, start + 64, stage)
        counts.append(who.obs_scale.moments.count)
    assert (counts[0] < counts[1], counts[1] == counts[3]) == (True, keep)


def test_importances_are_of_the_actor_and_of_the_critic() -> None:
    who = lived("CartPole-v1", 1, **settings("ewc"))
    fisher_P = taught(who).method.fisher_P
    actor_P, critic_P = torch.split(
        fisher_P, [sum(p.numel() for p in net.parameters()) for net in (who.actor, who.critic)]
    )
    assert actor_P.max() > 0
    assert critic_P[-1] == pytest.approx(1)  # of the last bias: d value / d bias is 1 in each row
    assert (fisher_P >= 0).all()


def test_gradients_by_hand_and_by_torch_make_one_life() -> None:
    for env, name in (("CartPole-v1", "ewc"), ("Pendulum-v1", "lwf"), ("Pendulum-v1", "replay")):
        ways = ("written", "autograd")
        ends = [lived(env, **settings(name), backward=way).flat.weights for way in ways]
        torch.testing.assert_close(*ends, atol=2e-3, rtol=0)


# What is kept, and what is refused.


def trial(name: str) -> Trial:
    pole = {"env": "CartPole-v1", "kwargs": {"max_episode_steps": 30}}
    return Trial(
        experiment="methods",
        arm="x",
        phase="test",
        agent=AgentSpec(name="ppo", config=settings(name)),
        tasks=tuple(
            TaskSpec(name=f"t{i}", physics=Physics(length=length), **pole)
            for i, length in enumerate((0.5, 1.0, 2.0))
        ),
        budget=Budget(steps=192, exam_every=96, exam_episodes=2, num_envs=4, checkpoint_every=64),
        seed=5,
    )


@every_method
@pytest.mark.parametrize("saved", [3, 8])
def test_interrupted_it_is_to_the_bit_what_it_was(name: str, saved: int, tmp_path: Path) -> None:
    """After a switch and in the middle of a task that follows one."""
    bundle = Bundle(trials=(trial(name),))
    whole = list(play(bundle, Alone(), tmp_path / "whole"))
    cut = until_saved(play(bundle, Alone(), tmp_path / "cut"), saved)
    again = list(play(bundle, Alone(), tmp_path / "cut"))
    assert encoded(cut + again) == encoded(whole)
    ends = [
        next((tmp_path / where / bundle.id / "policies").rglob("*.safetensors")).read_bytes()
        for where in ("whole", "cut")
    ]
    assert ends[0] == ends[1]


@every_method
def test_its_state_comes_back_whole(name: str, tmp_path: Path) -> None:
    who = lived("Pendulum-v1", **settings(name))
    who.save(tmp_path)
    heir = agent(world("Pendulum-v1"), **settings(name))
    heir.load(tmp_path)
    lives = [learn(one, world("Pendulum-v1", seed=9), 0, 128, stage=2) for one in (who, heir)]
    assert lives[0] == lives[1]
    assert weights(who) == weights(heir)
    for key, tensor in taught(who).state().items():
        assert torch.equal(tensor, taught(heir).state()[key])


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"name": "ewk"}, r"'ewk' is not; did you mean 'ewc'\? - at `\$.config.method.name`"),
        ({"name": "ewc", "strenght": 3}, r"'strenght' is not; did you mean 'strength'\? - at"),
        ("ewc", "a table with a name, but is 'ewc'; write {name: NAME}, and as NAME one of agem, "),
        ({}, "a table with a name, but is {}"),
        (
            {"name": "refresh", "base": {"name": "refresh"}},
            "choose one of agem, .*method.base.name",
        ),
        ({"name": "refresh", "base": {"name": "si", "dampin": 1}}, "did you mean 'damping'"),
        ({"name": "ewc", "strength": -1}, ">= 0.0, but is -1; correct it"),
        ({"name": "ewc", "strength": float("nan")}, "but is nan"),
    ],
)
def test_what_a_method_cannot_be_is_said(method: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        configure(AgentSpec(name="ppo", config={"method": method}))


def test_several_learners_cannot_follow_a_method() -> None:
    spec = WorldSpec(Box(-1, 1, (2,)), Discrete(2), 1, ())
    chosen: Chosen = ewc.Config()
    with pytest.raises(SpecError, match=r"must be 1 with a method .*, but is 2; leave it out"):
        ppo.make(Config(learners=2, method=chosen), spec, 0)
    ppo.make(Config(learners=2), spec, 0)


def test_the_page_of_an_agent_shows_all_methods() -> None:
    about = contract.settings("ppo")
    page = accounts.settings("ppo", about)
    assert "\n    method: {name: finetune}\n        or {name: replay, memory: 1000, " in page
    assert "or {name: refresh, base: {name: replay, " in page
    assert {one["name"] for one in about["choices"]["method"]} == {*METHODS, "finetune"}
    assert replay.Config().memory == 1000
