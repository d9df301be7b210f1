"""Gradients written out by hand, held against torch's."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from rigorl.blocks.actor_critic import ActorCritic, Autograd, Terms
from rigorl.blocks.actors import make_actor
from rigorl.blocks.adam import Adam, Flat, flatten
from rigorl.blocks.dense import Dense
from rigorl.blocks.nets import mlp
from rigorl.blocks.rollout import Batch, minibatches
from rigorl.blocks.written import Written, softmax, standardized

SPACES = {"box": Box(-1.0, 1.0, (3,)), "choice": Discrete(4, start=2)}
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
D = 5


class Pair:
    """The same two networks, with weights of their own, computed in both ways."""

    def __init__(
        self, space: Box | Discrete, terms: Terms, hidden: tuple[int, ...] = (8, 8)
    ) -> None:
        self.nets: dict[str, tuple[ActorCritic, Flat]] = {}
        for way in ("written", "autograd"):
            weights = torch.Generator().manual_seed(0)
            actor = make_actor(space, D, hidden, weights, -0.3)
            critic = mlp([D, *hidden, 1], 1.0, weights)
            flat = flatten([*actor.parameters(), *critic.parameters()])
            # A newborn actor's gradients are tiny, and its first biases nought.
            with torch.no_grad():
                flat.weights.add_(0.3 * torch.randn(len(flat.weights), generator=weights))
            net = (
                Written(actor, critic, terms)
                if way == "written"
                else Autograd(actor, critic, flat, terms)
            )
            self.nets[way] = net, flat


def batch(space: Box | Discrete, size: int, seed: int = 0) -> Batch:
    """Return steps whose ratios lie on both sides of the clip."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(size, D)).astype(np.float32)
    action = (
        rng.normal(size=(size, 3)).astype(np.float32)
        if isinstance(space, Box)
        else rng.integers(4, size=size)
    )
    numbers = rng.normal(size=(3, size)).astype(np.float32)
    numbers[0] -= 3 if isinstance(space, Box) else 1.5
    return Batch(rows, action, *numbers)


TERMS = [
    Terms(0.5, 0.0, normalize_advantage=True),
    Terms(0.7, 0.02, normalize_advantage=False),
]


@every_space
@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("size", [1, 2, 33])
@pytest.mark.parametrize("hidden", [(), (7,), (8, 6, 5)])
def test_gradients_and_losses_are_those_of_autograd(
    space: Box | Discrete, terms: Terms, size: int, hidden: tuple[int, ...]
) -> None:
    told = batch(space, size)
    found = {}
    for way, (net, flat) in Pair(space, terms, hidden).nets.items():
        losses = net.gradient(net.hold(told), 0.2)
        again, log_prob_B = net.assess(net.hold(told), 0.2)
        np.testing.assert_allclose(again, losses, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(log_prob_B, net.log_prob(told.obs_BD, told.action), rtol=1e-5)
        found[way] = flat.grad.numpy().copy(), losses, log_prob_B, net.value(told.obs_BD)
        if size == 33:
            clipped_B = np.abs(np.expm1(log_prob_B - told.log_prob_B)) > 0.2
            assert 0 < clipped_B.sum() < size
    for ours, reference in zip(*found.values(), strict=True):
        scale = np.abs(reference).max()
        np.testing.assert_allclose(ours, reference, rtol=1e-4, atol=1e-6 * max(1.0, scale))
    assert np.abs(found["autograd"][0]).max() > 1e-3


@every_space
def test_three_rounds_of_learning_end_at_the_same_weights(space: Box | Discrete) -> None:
    weights = []
    for net, flat in Pair(space, TERMS[0], (64, 64)).nets.values():
        adam = Adam([flat.weights], 1e-5)
        shuffle = torch.Generator().manual_seed(1)
        for _ in range(3):
            order = net.order(torch.randperm(100, generator=shuffle))
            for part in minibatches(net.hold(batch(space, 100)), 64, order):
                net.gradient(part, 0.2)
                adam.step([flat.grad], 3e-4, 0.5)
        weights.append(flat.weights.numpy())
    np.testing.assert_allclose(*weights, atol=1e-5)


@every_space
def test_actions_are_the_same(space: Box | Discrete) -> None:
    told = batch(space, 12)
    noise_BA = np.random.default_rng(1).normal(size=(12, 3 + isinstance(space, Discrete)))
    ours, reference = (
        net.act(told.obs_BD, noise_BA.astype(np.float32))
        for net, _ in Pair(space, TERMS[0]).nets.values()
    )
    np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-6)


def asked(net: ActorCritic, space: Box | Discrete, size: int) -> tuple[Any, list[Any]]:
    """Return observations, and answers that *net* would not give, where *net* takes them."""
    rng = np.random.default_rng(3)
    if isinstance(space, Box):
        said = list(rng.normal(size=(2, size, 3)).astype(np.float32))
    else:
        said = [softmax(rng.normal(size=(size, 4)).astype(np.float32))[0]]
    told = [*said, rng.normal(size=size).astype(np.float32)]
    there = torch.from_numpy if isinstance(net, Autograd) else np.asarray
    return net.hold(batch(space, size)).obs_BD, [there(part) for part in told]


@every_space
@pytest.mark.parametrize("size", [1, 33])
@pytest.mark.parametrize("hidden", [(), (8, 6, 5)])
def test_answers_and_what_keeps_them_are_those_of_autograd(
    space: Box | Discrete, size: int, hidden: tuple[int, ...]
) -> None:
    found = {}
    for way, (net, flat) in Pair(space, TERMS[1], hidden).nets.items():
        obs_BD, told = asked(net, space, size)
        answers = net.answers(obs_BD)
        assert net.recall(obs_BD, answers) == pytest.approx(0, abs=1e-5)
        assert flat.grad.abs().max() < 1e-5
        far = net.recall(obs_BD, told)
        grad_P = flat.grad.numpy().copy()
        net.fisher(obs_BD)
        found[way] = *map(np.asarray, answers), far, grad_P, flat.grad.numpy()
        assert np.abs(grad_P).max() > 0.1
    for ours, reference in zip(*found.values(), strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-4, atol=2e-6)


@every_space
def test_the_divergence_is_torchs_and_falls_along_its_gradient(space: Box | Discrete) -> None:
    net, flat = Pair(space, TERMS[1]).nets["written"]
    obs_BD, told = asked(net, space, 20)
    far, grad_P = net.recall(obs_BD, told), flat.grad.clone()
    *now, value_B = map(torch.from_numpy, net.answers(obs_BD))
    *said, wanted_B = map(torch.from_numpy, told)
    kl_B = kl_divergence(as_distribution(said), as_distribution(now))
    expected = kl_B.mean() + TERMS[1].value_coef * (value_B - wanted_B).square().mean()
    assert far == pytest.approx(expected.item(), rel=1e-5)
    some_P = torch.randn(len(grad_P), generator=torch.Generator().manual_seed(0))
    ends = []
    for sign in (1, -1):
        flat.weights.add_(some_P, alpha=sign * 1e-3)
        ends.append(net.recall(obs_BD, told))
        flat.weights.sub_(some_P, alpha=sign * 1e-3)
    assert (ends[0] - ends[1]) / 2e-3 == pytest.approx(torch.dot(grad_P, some_P).item(), rel=1e-2)


def as_distribution(said: list[torch.Tensor]) -> Any:
    if len(said) == 1:
        return Categorical(logits=said[0])
    return Independent(Normal(said[0], said[1].exp()), 1)


@every_space
def test_importances_are_mean_squares_of_the_gradients_of_single_rows(
    space: Box | Discrete,
) -> None:
    """Of many actions that the actor draws in each of a few rows: not of their mean gradient."""
    net, flat = Pair(space, TERMS[1], (4,)).nets["written"]
    obs_BD = batch(space, 3).obs_BD
    net.fisher(obs_BD)
    ours_P = flat.grad.clone()
    torch.manual_seed(0)
    *now, _ = map(torch.from_numpy, net.answers(obs_BD))
    draws = 3000
    square_P = torch.zeros_like(ours_P)
    for action in as_distribution(now).sample((draws,)).numpy():
        for row in range(3):
            one = obs_BD[row : row + 1]
            net.head.judge(one, action[row : row + 1])
            flat.grad.zero_()
            net.head.backward(one, np.ones(1, np.float32), 0.0)
            square_P += flat.grad.square()
    for row in range(3):
        one = obs_BD[row : row + 1]
        flat.grad.zero_()
        value_B1 = net.critic(one)
        net.critic.backward(one, np.ones_like(value_B1))
        square_P += draws * flat.grad.square()
    np.testing.assert_allclose(ours_P, square_P / (3 * draws), rtol=0.15, atol=0.02)


def test_numpy_adds_with_one_thread() -> None:
    assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}


def test_what_is_not_finite_stays_so() -> None:
    told = batch(SPACES["box"], 8)
    told.advantage_B[0] = np.nan
    for net, flat in Pair(SPACES["box"], TERMS[0]).nets.values():
        losses = net.gradient(net.hold(told), 0.2)
        assert np.isnan(losses.policy)
        Adam([flat.weights]).step([flat.grad], 1e-3, 0.5)
        assert flat.weights.isnan().any()


def test_a_value_is_not_overwritten_by_the_next() -> None:
    net, _ = Pair(SPACES["box"], TERMS[0]).nets["written"]
    rows = batch(SPACES["box"], 4).obs_BD
    first = net.value(rows)
    kept = first.copy()
    net.value(rows + 1)
    np.testing.assert_array_equal(first, kept)


def test_room_is_kept_for_few_sizes() -> None:
    net = mlp([2, 3, 1], 1.0, torch.Generator())
    flatten(net.parameters())
    dense = Dense(net)
    for size in range(1, 40):
        assert dense(np.zeros((size, 2), np.float32)).shape == (size, 1)
        assert len(dense._scratch) <= 8


def test_a_network_must_be_flattened_first() -> None:
    with pytest.raises(ValueError, match="flattened before"):
        Dense(mlp([2, 2], 1.0, torch.Generator()))


@settings(max_examples=50)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=30))
def test_standardized_rows_are_torchs(rows: list[float]) -> None:
    rows_B = np.array(rows, np.float32)
    std, mean = torch.std_mean(torch.from_numpy(rows_B).double())
    # In single precision, a spread below the mean's rounding is noise to both.
    if std > 1e-3 * np.abs(rows_B).max():
        expected = (rows_B - mean.numpy()) / (std.numpy() + 1e-8)
        np.testing.assert_allclose(standardized(rows_B), expected, atol=2e-3)
