"""Soft actor-critic's blocks: what is drawn, what is minimised, and the fast update."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rigorl.blocks import layers
from rigorl.blocks.layers import Layer, Net, carve, forward, initialise, parameters, widths
from rigorl.blocks.soft import (
    Steps,
    actor_loss,
    critic_loss,
    draw,
    log_prob,
    outputs,
    target,
    temperature_loss,
)
from rigorl.blocks.soft_update import Settings, Soft, told
from rigorl.blocks.squashed import Bounds

USUAL = Settings(lr=3e-4, discount=0.9, tau=0.1, target_every=1, target_entropy=-2.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def soft(hidden: tuple[int, ...] = (8, 8), seed: int = 0) -> Soft:
    """Return three observations, two actions, and a temperature of a half."""
    return Soft(3, 2, hidden, math.log(0.5), generator(seed))


def some_steps(size: int, seed: int = 1) -> Steps:
    g = generator(seed)
    obs_BD, next_obs_BD = torch.randn(2, size, 3, generator=g)
    action_BA = torch.rand(size, 2, generator=g) * 2 - 1
    terminal_B = (torch.rand(size, generator=g) < 0.3).float()
    return Steps(obs_BD, action_BA, next_obs_BD, torch.randn(size, generator=g), terminal_B)


# What is drawn.


def test_the_density_of_an_action_is_that_of_a_change_of_variables() -> None:
    # By automatic differentiation of tanh, in double precision: log N(u) - log |da / du|.
    u_BA = torch.linspace(-4, 4, 20, dtype=torch.float64).view(-1, 2).requires_grad_()
    log_std_BA = torch.linspace(-1, 1, 20, dtype=torch.float64).view(-1, 2)
    noise_BA = torch.linspace(-2, 2, 20, dtype=torch.float64).view(-1, 2)
    (slope_BA,) = torch.autograd.grad(u_BA.tanh().sum(), u_BA)
    mean_BA = u_BA - log_std_BA.exp() * noise_BA
    normal = torch.distributions.Normal(mean_BA, log_std_BA.exp())
    by_hand_B = (normal.log_prob(u_BA) - slope_BA.log()).sum(-1).detach()
    np.testing.assert_allclose(log_prob(u_BA, log_std_BA, noise_BA).detach(), by_hand_B)


@given(u=st.floats(-1e4, 1e4, width=32))
def test_a_saturated_action_has_a_finite_density_and_slope(u: float) -> None:
    u_BA = torch.tensor([[u]], requires_grad=True)
    said = log_prob(u_BA, torch.zeros(1, 1), torch.zeros(1, 1))
    # log(1 - tanh(u)^2) = log 4 - 2 |u| - 2 log(1 + exp(-2 |u|))
    change = math.log(4) - 2 * abs(u) - 2 * math.log1p(math.exp(-2 * abs(u)))
    assert said.item() == pytest.approx(-0.5 * math.log(2 * math.pi) - change, rel=1e-5, abs=1e-5)
    (slope,) = torch.autograd.grad(said, u_BA)
    assert slope.item() == pytest.approx(2 * math.tanh(u), abs=1e-5)


def test_a_draw_is_squashed_and_its_deviation_bounded() -> None:
    head_BX = torch.tensor([[0.5, -1.0, 0.0, -50.0], [0.0, 0.0, 9.0, 1.0]])
    drawn = draw(head_BX, torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
    assert drawn.action_BA[0].tolist() == pytest.approx([math.tanh(1.5), math.tanh(-1.0)])
    assert drawn.std_BA.flatten().tolist() == pytest.approx([1, math.exp(-20), math.exp(2), math.e])
    assert drawn.free_BA.tolist() == [[True, False], [False, True]]


def test_actions_are_stretched_to_the_box_and_never_leave_it() -> None:
    bounds = Bounds(np.float32([[-1.0, 0.0]]), np.float32([[3.0, 0.1]]))
    action = bounds.stretch(np.float32([[-1, -1], [0, 0], [1, 1]]))
    assert action.dtype == np.float32
    np.testing.assert_allclose(action, [[[-1, 0]], [[1, 0.05]], [[3, 0.1]]])
    rng = np.random.default_rng(0)
    low, high = np.sort(rng.normal(size=(2, 1000)).astype(np.float32), axis=0)
    ends = Bounds(low, high).stretch(np.ones((1, 1000), np.float32))
    assert (ends <= high).all()


# What is minimised.


def test_nothing_comes_after_a_terminal_step() -> None:
    reward_B, terminal_B = torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0])
    assert target(reward_B, terminal_B, torch.tensor([4.0, 4.0]), 0.5).tolist() == [3, 1]


def constant(value: float, n_in: int) -> Net:
    return [Layer(torch.zeros(1, n_in), torch.tensor([value]))]


def test_losses_worked_by_hand() -> None:
    # An actor of mean 0 and deviation 1, and critics that say 1 and 3; targets say 2 and 5.
    actor = [Layer(torch.zeros(2, 1), torch.zeros(2))]
    critics, targets = (constant(1.0, 2), constant(3.0, 2)), (constant(2.0, 2), constant(5.0, 2))
    one = torch.ones(1, 1)
    steps = Steps(one, 0 * one, one, torch.tensor([10.0]), torch.tensor([0.0]))
    noise, temperature = 0.3 * one, torch.tensor([0.2])
    density = -0.5 * math.log(2 * math.pi) - 0.5 * 0.09 - math.log(1 - math.tanh(0.3) ** 2)
    wanted = 10 + 0.5 * (2 - 0.2 * density)
    loss = critic_loss(critics, targets, actor, temperature, steps, noise, 0.5)
    assert loss.item() == pytest.approx(0.5 * ((1 - wanted) ** 2 + (3 - wanted) ** 2))
    drawn = draw(outputs(actor, one), noise)
    loss = actor_loss(critics, temperature, one, drawn)
    assert loss.item() == pytest.approx(0.2 * density - 1)


@pytest.mark.parametrize(("entropy", "rises"), [(-3.0, True), (-1.0, False)])
def test_the_temperature_rises_when_there_is_less_entropy_than_wanted(
    entropy: float, rises: bool
) -> None:
    log_temperature = torch.zeros(1, requires_grad=True)
    loss = temperature_loss(log_temperature, torch.full((4,), -entropy), target_entropy=-2.0)
    (slope,) = torch.autograd.grad(loss, log_temperature)
    assert (slope.item() < 0) == rises
    one, steps = soft(), some_steps(16)
    noise_2BA = torch.zeros(32, 2)
    seen = one.update(steps, noise_2BA, USUAL._replace(target_entropy=0.0))
    less = -seen["log_prob"].mean().item() < 0.0
    assert (one.log_temperature.item() > math.log(0.5)) == less


def test_a_fixed_temperature_stays() -> None:
    one = soft()
    for _ in range(3):
        one.update(some_steps(4), torch.zeros(8, 2), USUAL._replace(target_entropy=None))
    assert one.log_temperature.exp().item() == pytest.approx(0.5)


# The update.


def differentiable(*nets: Net) -> list[Net]:
    return [[Layer(*(t.clone().requires_grad_() for t in layer)) for layer in net] for net in nets]


def by_the_book(one: Soft, steps: Steps, noise_2BA: torch.Tensor, told: Settings) -> None:
    """Do what `Soft.update` does by automatic differentiation of the losses as they are read."""
    now_BA, ahead_BA = noise_2BA.chunk(2)
    temperature = one.log_temperature.exp()
    actor, *critics = differentiable(one.actor, *one.critics)
    loss = critic_loss(
        tuple(critics), one.targets, one.actor, temperature, steps, ahead_BA, told.discount
    )
    one.critic_adam.step(torch.autograd.grad(loss, parameters(critics)), told.lr)
    drawn = draw(outputs(actor, steps.obs_BD), now_BA)
    loss = actor_loss(one.critics, temperature, steps.obs_BD, drawn)
    one.actor_adam.step(torch.autograd.grad(loss, parameters([actor])), told.lr)
    free = one.log_temperature.clone().requires_grad_()
    loss = temperature_loss(free, drawn.log_prob_B, told.target_entropy)
    one.temperature_adam.step(torch.autograd.grad(loss, free), told.lr)
    for mine, slow in zip(parameters(one.critics), parameters(one.targets), strict=True):
        slow.copy_((1 - told.tau) * slow + told.tau * mine)


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize(("hidden", "size"), [((8, 8), 16), ((32,), 5), ((16, 16, 16), 64)])
def test_an_update_is_that_of_the_losses_differentiated(
    hidden: tuple[int, ...], size: int, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not onednn:
        monkeypatch.setattr(layers, "_LINEAR", None)
    fast, slow = soft(hidden), soft(hidden)
    for one in (fast, slow):
        one.actor[-1].bias_O[2] = 3.0  # a deviation that is held at its bound, and has no slope
    start = fast.weights.clone()
    for i in range(3):
        steps, noise_2BA = some_steps(size, i), torch.randn(2 * size, 2, generator=generator(i))
        fast.update(steps, noise_2BA, USUAL)
        by_the_book(slow, steps, noise_2BA, USUAL)
    assert not torch.equal(fast.weights, start)
    for name in ("weights", "targets_flat", "log_temperature"):
        mine, book = getattr(fast, name), getattr(slow, name)
        assert ((mine - book).norm() / book.norm()).item() < 1e-6
    for name, adam in fast._adams().items():
        for key, mine in adam.state().items():
            book = slow._adams()[name].state()[key]
            assert ((mine - book).norm() / book.norm()).item() < 1e-5


def test_targets_follow_slowly_and_only_when_it_is_time() -> None:
    one = soft()
    assert torch.equal(one.targets_flat, one._critics_flat)
    before = one.targets_flat.clone()
    often = USUAL._replace(target_every=2, tau=0.25)
    one.update(some_steps(8), torch.zeros(16, 2), often)
    assert torch.equal(one.targets_flat, before)
    one.update(some_steps(8), torch.zeros(16, 2), often)
    wanted = 0.75 * before + 0.25 * one._critics_flat
    np.testing.assert_allclose(one.targets_flat, wanted, rtol=1e-5, atol=1e-7)


def test_what_is_told_of_an_update() -> None:
    one, steps, noise_2BA = soft(), some_steps(8), torch.randn(16, 2, generator=generator())
    before = copy.deepcopy(one)
    metrics = told(one.update(steps, noise_2BA, USUAL))
    temperature = before.log_temperature.exp()
    loss = critic_loss(
        before.critics, before.targets, before.actor, temperature, steps, noise_2BA[8:], 0.9
    )
    drawn = draw(outputs(before.actor, steps.obs_BD), noise_2BA[:8])
    after = actor_loss(one.critics, temperature, steps.obs_BD, drawn)  # the critics have learned
    assert metrics == {
        "critic_loss": pytest.approx(loss.item(), rel=1e-5),
        "actor_loss": pytest.approx(after.item(), rel=1e-4),
        "q": pytest.approx(0.5 * drawn.log_prob_B.mean().item() - after.item(), rel=1e-4),
        "entropy": pytest.approx(-drawn.log_prob_B.mean().item(), rel=1e-5),
        "temperature": pytest.approx(0.5),
    }


def test_networks_are_born_as_those_of_torch_are() -> None:
    sizes = [400, 50, 2]
    net = carve(torch.zeros(sum(widths(sizes))), sizes)
    initialise(net, generator())
    for layer in net:
        bound = layer.weight_OI.shape[1] ** -0.5
        assert 0.9 * bound < layer.weight_OI.abs().max() <= bound
        assert layer.bias_O.any()
    x_BI = torch.randn(9, 400)
    np.testing.assert_allclose(forward(net, x_BI)[-1], outputs(net, x_BI), rtol=1e-4, atol=1e-6)
