"""SAC and its blocks. What every agent must keep is in test_agents.py."""

import copy
import math
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st

from rigorl.agents import sac
from rigorl.agents.sac import SAC, Config
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
from rigorl.blocks.soft_update import Adam, Settings, Soft, told
from rigorl.blocks.squashed import Bounds
from rigorl.contract import Progress, Span
from rigorl.errors import SpecError
from rigorl.outside.in_process import Alone
from rigorl.spec import TaskSpec
from rigorl.tasks.world import World, WorldSpec

SMALL = {"learning_starts": 8, "batch": 16, "hidden": (8,), "capacity": 64}
USUAL = Settings(lr=3e-4, discount=0.9, tau=0.1, target_every=1, target_entropy=-2.0)


def world(env: str = "Pendulum-v1", num_envs: int = 2, **kwargs: Any) -> World:
    envs = SyncVectorEnv(
        [partial(gym.make, env, **kwargs)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP
    )
    envs.reset(seed=0)
    return World(TaskSpec(name="t", env=env), envs)


def agent(place: World, seed: int = 0, **config: Any) -> SAC:
    envs = place.envs
    spaces = envs.single_observation_space, envs.single_action_space
    return sac.make(
        Config(**{**SMALL, **config}), WorldSpec(*spaces, envs.num_envs, (place.task,)), seed
    )


def learn(who: SAC, place: World, start: int, stop: int, stage: int = 0) -> list[Progress]:
    return list(who.learn(place, Alone(), Span(stage, start, stop)))


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


def test_adam_is_adam_and_may_forget() -> None:
    # `torch.optim.Adam` agrees, but takes two seconds to import.
    parts = [torch.ones(2, 2), torch.ones(1)]
    adam = Adam(parts)
    weights, mean, square = np.ones(5), np.zeros(5), np.zeros(5)
    for t in range(1, 6):
        slope = np.linspace(-1, 1, 5) * 10.0 ** (2 - t)
        grads = torch.tensor(slope, dtype=torch.float32)
        adam.step([grads[:4].view(2, 2), grads[4:]], 0.01)
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        weights -= 0.01 * mean / (1 - 0.9**t) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(torch.cat([p.flatten() for p in parts]), weights, rtol=1e-5)
    adam.forget()
    assert not any(tensor.any() for tensor in adam.state().values())


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


# The agent.


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
    place = world()
    seen = learn(agent(place, **config), place, 0, 99)
    assert seen[-1].update == updates
    assert (seen[-1].step, seen[-1].safe) == (99, True)
    made = [p for p in seen if p.metrics.keys() > {"critic_loss"}]
    assert [p.update for p in made] == list(range(1, updates + 1))
    assert all(np.isfinite(list(p.metrics.values())).all() for p in seen)


def test_it_remembers_where_a_time_limit_led_and_looks_beyond_it() -> None:
    place = world(max_episode_steps=5, num_envs=1)
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
    whole = agent(world(), **config)
    learn(whole, world(), 0, 90)  # more than the replay holds
    whole.save(tmp_path)
    heir = agent(world(), seed=5, **config)
    heir.load(tmp_path)
    assert learn(whole, world(), 90, 140) == learn(heir, world(), 90, 140)
    assert torch.equal(whole.soft.weights, heir.soft.weights)


def test_what_a_switch_forgets(tmp_path: Path) -> None:
    for reset in (False, True):
        place = world()
        who = agent(place, reset_replay_at_switch=reset, reset_optimizer_at_switch=reset)
        learn(who, place, 0, 20)
        learn(who, place, 10, 20, stage=1)  # taken up in the middle: no switch
        assert len(who.replay) == 30
        learner = who.learn(place, Alone(), Span(1, 0, 20))
        next(learner)
        assert len(who.replay) == (2 if reset else 32)
        assert who.soft.critic_adam.steps == (1 if reset else who.soft.updates)


def test_the_number_of_threads_is_its_own() -> None:
    place = world()
    learn(agent(place, threads=2), place, 0, 20)
    assert torch.get_num_threads() == 1


def test_a_policy_stands_alone(tmp_path: Path) -> None:
    place = world()
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
    place = world()
    who = agent(place)
    who.soft.weights[-1] = float("nan")  # of a critic
    seen = learn(who, place, 0, 20)
    assert np.isnan(next(p for p in seen if p.update == 1).metrics["critic_loss"])
