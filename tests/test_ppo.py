"""PPO and its blocks. What every agent must keep is in test_agents.py."""

import copy
import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rigorl.agents import ppo
from rigorl.agents.ppo import PPO, Config, divergence, scheduled, surrogate
from rigorl.blocks.actors import CategoricalActor, GaussianActor
from rigorl.blocks.adam import Adam
from rigorl.blocks.nets import mlp
from rigorl.blocks.normalize import Moments, ObsScale, RewardScale
from rigorl.blocks.rollout import Batch, Episodes, Rollout, gae, minibatches
from rigorl.contract import Progress, Span
from rigorl.errors import SpecError
from rigorl.outside.in_process import Alone
from rigorl.spec import TaskSpec
from rigorl.tasks.world import World, WorldSpec

SMALL = {"n_steps": 32, "minibatch": 48, "epochs": 2, "hidden": (8,)}
IDS = ["CartPole-v1", "Pendulum-v1"]


def world(env: str, seed: int = 0, **kwargs: Any) -> World:
    envs = SyncVectorEnv(
        [partial(gym.make, env, **kwargs)] * 4, autoreset_mode=AutoresetMode.SAME_STEP
    )
    envs.reset(seed=seed)
    return World(TaskSpec(name="t", env=env), envs)


def agent(place: World, seed: int = 0, **config: Any) -> PPO:
    envs = place.envs
    spaces = envs.single_observation_space, envs.single_action_space
    return ppo.make(
        Config(**{**SMALL, **config}), WorldSpec(*spaces, envs.num_envs, (place.task,)), seed
    )


def learn(who: PPO, place: World, start: int, stop: int, stage: int = 0) -> list[Progress]:
    return list(who.learn(place, Alone(), Span(stage, start, stop)))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def batch(size: int, n_obs: int = 3) -> Batch:
    numbers = torch.arange(size, dtype=torch.float32)
    return Batch(numbers[:, None].expand(-1, n_obs), numbers, numbers, numbers, numbers)


def close(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-6) -> None:
    """Compare; `torch.testing` would take a second to import."""
    np.testing.assert_allclose(a.detach(), b.detach(), rtol=1e-5, atol=atol)


# Blocks.


def test_gae_stops_at_an_end_and_looks_beyond_a_time_limit() -> None:
    # One environment goes on, one dies at the second step, one runs out of time there.
    rollout = Rollout(torch.zeros(3, 3, 1), torch.zeros(3, 3, 1))
    rollout.reward_TE[:] = 1.0
    rollout.done_TE[1, 1:] = True
    rollout.after_TE[1, 2] = 4.0
    value_TE = np.full((3, 3), 2.0)
    last_E = np.full(3, 6.0)
    advantage_TE = rollout.advantages(value_TE, last_E, discount=0.5, trace=0.5)
    # delta = 1 + 0.5 next - 2, and advantage = delta + 0.25 later.
    third = 1 + 3 - 2
    on = [0 + 0.25 * (0 + 0.25 * third), 0 + 0.25 * third, third]
    dead = [0 + 0.25 * -1, -1, third]
    cut = [0 + 0.25 * 1, 1, third]
    np.testing.assert_allclose(advantage_TE, np.transpose([on, dead, cut]))


def test_gae_with_full_trace_is_return_minus_value() -> None:
    rng = np.random.default_rng(0)
    reward_TE, value_TE = rng.normal(size=(2, 5, 1))
    next_TE = np.concatenate([value_TE[1:], [[7.0]]])
    done_TE = np.zeros((5, 1), np.bool_)
    advantage_TE = gae(reward_TE, value_TE, next_TE, done_TE, discount=0.9, trace=1.0)
    full = sum(0.9**t * reward_TE[t, 0] for t in range(5)) + 0.9**5 * 7.0
    assert advantage_TE[0, 0] == pytest.approx(full - value_TE[0, 0])


def test_moments_of_parts_are_those_of_the_whole() -> None:
    rows_BD = np.random.default_rng(0).normal(1e4, [1.0, 50.0], size=(100, 2))
    moments = Moments(2)
    assert moments.mean_D.tolist() == [0, 0]
    assert moments.var_D.tolist() == [1, 1]
    for part in np.split(rows_BD, [1, 3, 60]):
        moments.update(part)
    np.testing.assert_allclose(moments.mean_D, rows_BD.mean(0))
    np.testing.assert_allclose(moments.var_D, rows_BD.var(0))
    other = Moments(2)
    other.load(moments.state())
    other.update(rows_BD[:5])
    assert (other.count, moments.count) == (105, 100)


def test_observations_are_scaled_flattened_and_clipped() -> None:
    scale = ObsScale(2, 1.5, on=True)
    obs_BD = scale.learn(np.array([[[0.0], [1.0]], [[2.0], [1.0]]]))
    assert obs_BD.tolist() == [[-1, 0], [1, 0]]
    assert scale(np.array([[9.0, 1.0]])).tolist() == [[1.5, 0]]
    assert scale.moments.count == 2
    plain = ObsScale(2, 1.5, on=False)
    assert plain.learn(np.array([[9, 200]], np.uint8)).tolist() == [[9, 200]]


def test_rewards_are_scaled_by_the_spread_of_their_discounted_sums() -> None:
    scale = RewardScale(0.5, 10.0, on=True)
    scale.begin(2)
    done_E = np.array([False, True])
    scale.learn(np.array([1.0, 3.0]), done_E)
    scaled_E = scale.learn(np.array([2.0, 4.0]), done_E)
    sums = [1.0, 3.0, 0.5 * 1.0 + 2.0, 4.0]  # the second episode ended
    np.testing.assert_allclose(scaled_E, np.array([2.0, 4.0]) / np.std(sums))
    assert scale.learn(np.array([1e6, -1e9]), done_E).tolist() != [1e6, -1e9]
    assert np.abs(scale.learn(np.array([1e6, -1e12]), done_E)).max() <= 10


def test_adam_is_adam_with_clipped_gradients() -> None:
    # `torch.optim.Adam` agrees, but takes two seconds to import.
    parts = [torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(1))]
    adam = Adam(parts, 1e-5)
    weights, mean, square = np.ones(5), np.zeros(5), np.zeros(5)
    for t in range(1, 6):
        slope = np.linspace(-1, 1, 5) * 10.0 ** (2 - t)
        loss = (parts[0].flatten() * torch.tensor(slope[:4])).sum() + parts[1] * slope[4]
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step(0.01, 0.5)
        slope *= min(1, 0.5 / np.linalg.norm(slope))
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        spread = np.sqrt(square / (1 - 0.999**t)) + 1e-5
        weights -= 0.01 * mean / (1 - 0.9**t) / spread
    np.testing.assert_allclose(parts[0].detach().flatten(), weights[:4], rtol=1e-5)
    np.testing.assert_allclose(parts[1].detach(), weights[4:], rtol=1e-5)


def test_networks_are_orthogonal_and_their_generators_own() -> None:
    before = torch.get_rng_state()
    net = mlp([4, 8, 8, 2], 0.01, generator())
    assert torch.equal(before, torch.get_rng_state())
    weight = net[2].weight
    close(weight @ weight.T, 2 * torch.eye(8))  # sqrt(2) squared
    last = net[4].weight
    close(last @ last.T, 1e-4 * torch.eye(2))
    assert not any(bias.any() for name, bias in net.named_parameters() if "bias" in name)


def test_a_gaussian_actor_knows_its_likelihoods() -> None:
    space = Box(-1.0, np.float32([[0.5, 2.0]]), (1, 2))
    actor = GaussianActor(space, 3, (4,), generator(), log_std=0.3)
    obs_BD, noise_BA = torch.randn(5, 3), torch.randn(5, 2)
    action_BA = actor.act(obs_BD, noise_BA)
    normal = torch.distributions.Normal(actor.mode(obs_BD), actor.log_std_A.exp())
    log_prob_B, entropy = actor.judge(obs_BD, action_BA)
    close(log_prob_B, normal.log_prob(action_BA).sum(-1))
    close(entropy, normal.entropy().sum(-1).mean())
    assert actor.for_env(torch.tensor([[9.0, -9.0]])).tolist() == [[[0.5, -1.0]]]


def test_a_categorical_actor_knows_its_likelihoods() -> None:
    actor = CategoricalActor(Discrete(3, start=5), 2, (4,), generator())
    with torch.no_grad():
        actor.logits[-1].bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
    obs_BD = torch.zeros(20_000, 2)
    action_B = actor.act(obs_BD, actor.noise(20_000, generator=generator()))
    categorical = torch.distributions.Categorical(logits=actor.logits(obs_BD))
    log_prob_B, entropy = actor.judge(obs_BD, action_B)
    close(log_prob_B, categorical.log_prob(action_B))
    close(entropy, categorical.entropy().mean())
    shares = action_B.bincount() / len(action_B)
    close(shares, categorical.probs[0], atol=0.01)
    assert actor.for_env(torch.tensor([0, 2])).tolist() == [5, 7]


def test_minibatches_hold_each_row_once_and_whole() -> None:
    parts = list(minibatches(batch(10), 4, generator()))
    assert [len(part.return_B) for part in parts] == [4, 4, 2]
    rows = torch.cat([part.return_B for part in parts])
    assert rows.tolist() != sorted(rows.tolist()) == list(range(10))
    for part in parts:
        assert torch.equal(part.obs_BD[:, 1], part.advantage_B)


def test_episodes_are_counted_when_they_end() -> None:
    episodes = Episodes(2)
    assert episodes.summary() == {}
    episodes.add(np.array([1.0, 2.0]), np.array([False, False]))
    episodes.add(np.array([1.0, 2.0]), np.array([False, True]))
    episodes.add(np.array([1.0, 8.0]), np.array([True, True]))
    assert episodes.summary() == {"train/return": pytest.approx((4 + 3 + 8) / 3)}


# The algorithm.


def test_the_surrogate_is_clipped_only_against_gain() -> None:
    ratio_B = torch.tensor([1.5, 0.5, 1.5, 0.5, 1.1])
    advantage_B = torch.tensor([1.0, 1.0, -1.0, -1.0, 2.0])
    by_hand = (1.2 + 0.5 - 1.5 - 0.8 + 2.2) / 5
    assert surrogate(ratio_B, advantage_B, 0.2).item() == pytest.approx(by_hand)


def test_divergence_is_estimated_without_bias() -> None:
    old, new = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(0.1, 1.0)
    action_B = torch.randn(20_000, generator=generator())
    estimate = divergence(new.log_prob(action_B) - old.log_prob(action_B))
    assert estimate == pytest.approx(0.1**2 / 2, rel=0.05)
    assert divergence(torch.zeros(3)) == 0


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
def test_taken_up_again_it_is_what_it_was(env: str, tmp_path: Path) -> None:
    whole = agent(world(env))
    learn(whole, world(env), 0, 128)
    whole.save(tmp_path)
    heir = agent(world(env), seed=5)
    heir.load(tmp_path)
    assert learn(whole, world(env, 9), 128, 384) == learn(heir, world(env, 9), 128, 384)
    for name, part in whole._parts().items():
        for key, value in part.state().items():
            assert torch.equal(value, heir._parts()[name].state()[key])
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
    who.adam.weights.fill_(float("nan"))
    assert np.isnan(next(iter(who.learn(place, Alone(), Span(0, 0, 128)))).metrics["loss"])
