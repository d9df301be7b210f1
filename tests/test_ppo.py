"""PPO. What every agent must keep is in test_agents.py."""

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from helpers.learning import learn, world
from rigorl.agents import ppo
from rigorl.agents.ppo import PPO, Config, scheduled
from rigorl.blocks.rollout import Episodes
from rigorl.contract import Progress, Span
from rigorl.errors import SpecError
from rigorl.outside.in_process import Alone
from rigorl.spec import TaskSpec
from rigorl.tasks.world import World, WorldSpec

SMALL = {"n_steps": 32, "minibatch": 48, "epochs": 2, "hidden": (8,)}
IDS = ["CartPole-v1", "Pendulum-v1"]


def agent(place: World, seed: int = 0, **config: Any) -> PPO:
    envs = place.envs
    spaces = envs.single_observation_space, envs.single_action_space
    return ppo.make(
        Config(**{**SMALL, **config}), WorldSpec(*spaces, envs.num_envs, (place.task,)), seed
    )


def test_schedules() -> None:
    assert [scheduled(4.0, "linear", left) for left in (1.0, 0.5, 0.0)] == [4, 2, 0]
    assert [scheduled(4.0, "constant", left) for left in (1.0, 0.5, 0.0)] == [4, 4, 4]


def test_the_learning_rate_falls_over_the_whole_task_however_often_it_is_taken_up() -> None:
    place = world("CartPole-v1")
    who = agent(place, lr_schedule="linear", lr=1.0)
    rates = [p.metrics["lr"] for p in learn(who, place, 128, 512) if p.safe]
    assert rates == [0.75, 0.5, 0.25]


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        (Dict(x=Box(0, 1)), Discrete(2), "ppo must see a Box, but the observation is Dict"),
        (Discrete(3), Discrete(2), "ppo must see a Box, but the observation is Discrete"),
        (Box(0, 1), MultiDiscrete([2, 2]), "in a Box of floats or in a Discrete space, but"),
        (Box(0, 1), Box(0, 9, dtype=np.int64), "but the action is Box.*; choose a task"),
    ],
)
def test_spaces_it_cannot_use_are_refused(observation: Any, action: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ppo.make(Config(), WorldSpec(observation, action, 1, ()), 0)


@pytest.mark.parametrize("env", IDS)
def test_it_learns_finitely_and_ends_where_it_should(env: str) -> None:
    place = world(env)
    seen = learn(agent(place), place, 0, 301)  # neither of rollouts nor of environments
    assert all(np.isfinite(list(p.metrics.values())).all() for p in seen)
    safe = [p for p in seen if p.safe]
    assert [p.step for p in safe] == [128, 256, 301]
    assert [p.update for p in seen] == list(range(1, len(seen) + 1))
    assert seen[-1] == safe[-1]
    assert "loss" in seen[0].metrics
    assert {"approx_kl", "clip_fraction", "entropy", "explained_variance"} <= set(safe[0].metrics)


@pytest.mark.parametrize("env", IDS)
def test_the_same_seed_lives_the_same_life(env: str) -> None:
    lives = []
    for seed in (0, 0, 1):
        place = world(env)
        lives.append(learn(agent(place, seed), place, 0, 200))
    assert lives[0] == lives[1] != lives[2]


@pytest.mark.parametrize("env", IDS)
def test_gradients_by_hand_and_by_torch_make_one_life(env: str) -> None:
    lives = []
    for backward in ("written", "autograd"):
        place = world(env)
        who = agent(place, backward=backward)
        learn(who, place, 0, 128)
        lives.append(who.flat.weights.numpy())
        assert who.updates == 6
    np.testing.assert_allclose(*lives, atol=1e-5)


@pytest.mark.parametrize("env", IDS)
def test_taken_up_again_it_is_what_it_was(env: str, tmp_path: Path) -> None:
    whole = agent(world(env))
    learn(whole, world(env), 0, 128)
    whole.save(tmp_path)
    heir = agent(world(env), seed=5)
    heir.load(tmp_path)
    assert learn(whole, world(env, seed=9), 128, 384) == learn(heir, world(env, seed=9), 128, 384)
    for name, part in whole._parts().items():
        for key, value in part.state().items():
            assert torch.equal(value, heir._parts()[name].state()[key])
    assert torch.equal(whole.flat.weights, heir.flat.weights)
    assert whole.adam.steps == whole.updates == heir.updates


def test_at_an_unsafe_yield_it_can_be_examined_and_goes_on_unmoved() -> None:
    def life(*, examined: bool) -> Iterator[Progress]:
        place = world("Pendulum-v1")
        who = agent(place)
        for progress in who.learn(place, Alone(), Span(0, 0, 256)):
            if examined:
                who.policies()["ppo"](np.zeros((2, 3)))
            yield progress

    assert list(life(examined=True)) == list(life(examined=False))


@pytest.mark.parametrize("env", IDS)
def test_a_policy_stands_alone(env: str, tmp_path: Path) -> None:
    place = world(env)
    who = agent(place)
    learn(who, place, 0, 128)
    policy = who.policies()["ppo"]
    obs = np.random.default_rng(0).normal(size=(16, *place.envs.single_observation_space.shape))
    action = policy(obs)
    assert b"torch." not in pickle.dumps(policy)  # but a few arrays, though it has acted
    learn(who, place, 0, 256, stage=1)
    assert not np.array_equal(who.policies()["ppo"].obs_scale(obs), policy.obs_scale(obs))  # type: ignore[attr-defined]
    policy.save(tmp_path)
    space = place.envs.single_action_space
    assert action.dtype == space.dtype
    assert all(space.contains(one) for one in action)
    for same in (
        policy,
        copy.deepcopy(policy),
        pickle.loads(pickle.dumps(policy)),  # noqa: S301
        ppo.load_policy(tmp_path),
    ):
        np.testing.assert_array_equal(same(obs), action)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 10_000


def test_it_looks_beyond_the_time_limit_only() -> None:
    place = world("Pendulum-v1", max_episode_steps=10)
    who = agent(place, normalize_obs=False, normalize_reward=False, discount=0.5)
    with torch.no_grad():
        who.critic[-1].bias.fill_(100.0)
    obs_ED = who.obs_scale.learn(place.envs.reset()[0])
    one, _ = who._collect(place.envs, obs_ED, 10, Episodes(4))
    # Were the last step the end, its return would be its reward, at most 0.
    assert (one.return_B[-4:] > 30).all()


class Bounded(gym.Env[Any, Any]):
    """One step an episode, at whose end time is up as well."""

    observation_space, action_space = Box(-1, 1, (1,)), Box(-1, 1, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), 0.0, True, True, {}


def test_an_end_is_an_end_though_time_is_up() -> None:
    envs = SyncVectorEnv([Bounded] * 4, autoreset_mode=AutoresetMode.SAME_STEP)
    place = World(TaskSpec(name="t", env="none"), envs)
    who = agent(place, normalize_obs=False, normalize_reward=False)
    with torch.no_grad():
        who.critic[-1].bias.fill_(100.0)
    one, _ = who._collect(envs, who.obs_scale.learn(envs.reset()[0]), 3, Episodes(4))
    np.testing.assert_array_equal(one.return_B, 0)


def test_learning_stops_early_when_the_policy_has_gone_too_far() -> None:
    place = world("CartPole-v1")
    who = agent(place, target_kl=1e-9, epochs=5)
    seen = learn(who, place, 0, 256)
    assert [p.safe for p in seen] == [False, False, True] * 2  # one epoch each


def test_adam_may_forget_at_a_switch() -> None:
    for forget, steps in ((True, 6), (False, 12)):
        place = world("CartPole-v1")
        who = agent(place, reset_optimizer_at_switch=forget)
        learn(who, place, 0, 128, stage=0)
        learn(who, place, 0, 128, stage=1)
        assert (who.adam.steps, who.updates) == (steps, 12)


def test_a_loss_that_is_not_finite_is_told_at_once() -> None:
    place = world("CartPole-v1")
    who = agent(place)
    who.flat.weights.fill_(float("nan"))
    assert np.isnan(next(iter(who.learn(place, Alone(), Span(0, 0, 128)))).metrics["loss"])
