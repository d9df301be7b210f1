"""The parts that agents are built of; the ways to compute an actor and a critic are in test_written.py."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rigorl.blocks.actor_critic import divergence, surrogate
from rigorl.blocks.actors import CategoricalActor, GaussianActor
from rigorl.blocks.adam import Adam, flatten
from rigorl.blocks.nets import mlp
from rigorl.blocks.normalize import Moments, ObsScale, RewardScale
from rigorl.blocks.rollout import Batch, Episodes, Rollout, gae, minibatches


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def batch(size: int, n_obs: int = 3) -> Batch[Any]:
    numbers = np.arange(size, dtype=np.float32)
    return Batch(numbers[:, None].repeat(n_obs, 1), numbers, numbers, numbers, numbers)


def close(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-6) -> None:
    """Compare; `torch.testing` would take a second to import."""
    np.testing.assert_allclose(a.detach(), b.detach(), rtol=1e-5, atol=atol)


def test_gae_stops_at_an_end_and_looks_beyond_a_time_limit() -> None:
    # One environment goes on, one dies at the second step, one runs out of time there.
    rollout = Rollout(np.zeros((3, 3, 1)), np.zeros((3, 3, 1)))
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


@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_adam_is_adam_with_clipped_gradients_and_may_forget(max_norm: float | None) -> None:
    # `torch.optim.Adam` agrees, but takes two seconds to import.
    parts = [torch.ones(2, 2), torch.ones(1)]
    adam = Adam(parts, 1e-5)
    weights, mean, square = np.ones(5), np.zeros(5), np.zeros(5)
    for t in range(1, 6):
        slope = np.linspace(-1, 1, 5) * 10.0 ** (2 - t)
        grads = torch.tensor(slope, dtype=torch.float32)
        adam.step([grads[:4].view(2, 2), grads[4:]], 0.01, max_norm)
        if max_norm is not None:
            slope *= min(1, max_norm / np.linalg.norm(slope))
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        spread = np.sqrt(square / (1 - 0.999**t)) + 1e-5
        weights -= 0.01 * mean / (1 - 0.9**t) / spread
    np.testing.assert_allclose(parts[0].flatten(), weights[:4], rtol=1e-5)
    np.testing.assert_allclose(parts[1], weights[4:], rtol=1e-5)
    adam.forget()
    assert not any(tensor.any() for tensor in adam.state().values())


def test_flattened_weights_and_gradients_are_those_of_the_parameters() -> None:
    parts = [torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.zeros(1))]
    flat = flatten(parts)
    assert flat.weights.tolist() == [1, 1, 1, 1, 0]
    (parts[0].sum() * 2 + parts[1]).backward()  # type: ignore[no-untyped-call]
    assert flat.grad.tolist() == [2, 2, 2, 2, 1]
    flat.weights.fill_(3.0)
    assert parts[0].tolist() == [[3, 3], [3, 3]]


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
    assert actor.for_env(np.array([[9.0, -9.0]])).tolist() == [[[0.5, -1.0]]]


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
    assert actor.for_env(np.array([0, 2])).tolist() == [5, 7]


def test_minibatches_hold_each_row_once_and_whole() -> None:
    parts = list(minibatches(batch(10), 4, np.random.default_rng(0).permutation(10)))
    assert [len(part.return_B) for part in parts] == [4, 4, 2]
    rows = np.concatenate([part.return_B for part in parts])
    assert rows.tolist() != sorted(rows.tolist()) == list(range(10))
    for part in parts:
        np.testing.assert_array_equal(part.obs_BD[:, 1], part.advantage_B)


def test_episodes_are_counted_when_they_end() -> None:
    episodes = Episodes(2)
    assert episodes.summary() == {}
    episodes.add(np.array([1.0, 2.0]), np.array([False, False]))
    episodes.add(np.array([1.0, 2.0]), np.array([False, True]))
    episodes.add(np.array([1.0, 8.0]), np.array([True, True]))
    assert episodes.summary() == {"train/return": pytest.approx((4 + 3 + 8) / 3)}


def test_the_surrogate_is_clipped_only_against_gain() -> None:
    ratio_B = torch.tensor([1.5, 0.5, 1.5, 0.5, 1.1])
    advantage_B = torch.tensor([1.0, 1.0, -1.0, -1.0, 2.0])
    by_hand = (1.2 + 0.5 - 1.5 - 0.8 + 2.2) / 5
    assert surrogate(ratio_B, advantage_B, 0.2).item() == pytest.approx(by_hand)


def test_divergence_is_estimated_without_bias() -> None:
    old, new = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(0.1, 1.0)
    action_B = torch.randn(20_000, generator=generator())
    estimate = divergence((new.log_prob(action_B) - old.log_prob(action_B)).numpy())
    assert estimate == pytest.approx(0.1**2 / 2, rel=0.05)
    assert divergence(np.zeros(3)) == 0
