"""H-infinity: each known mistake of such code has its test (5, densities: test_forces.py; 12, the
disturber of the training judges nothing: test_attacker.py).
"""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rigorl.agents import hinf
from rigorl.agents.hinf import Config, HInf
from rigorl.blocks.actors import GaussianActor
from rigorl.blocks.duel import Field, Rollout, Terms, centred, evened
from rigorl.blocks.forces import Random
from rigorl.blocks.game import Lesson, Players, Sizes, Turns
from rigorl.contract import Span
from rigorl.errors import SpecError
from rigorl.outside.in_process import Alone
from rigorl.ports import PortSpec
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_world, world_spec
from rigorl.tasks.world import World, WorldSpec

POLE = TaskSpec(
    name="pole",
    env="InvertedPendulum-v5",
    kwargs={"max_episode_steps": 20},
    port=PortSpec(bodies=("cart", "pole"), limit=5.0, axes="x", best=1.0),
)
SMALL: dict[str, Any] = {"n_steps": 16, "minibatch": 32, "epochs": 2, "warm_up": 0.0, "ramp": 0.0}


def agent(seed: int = 0, num_envs: int = 4, **config: Any) -> HInf:
    return hinf.make(Config(**{**SMALL, **config}), world_spec([POLE], num_envs), seed)


@pytest.fixture
def world() -> Iterator[World]:
    with closing(open_world(POLE, 4, 3, {})) as opened:
        yield opened


def rollout(self: HInf, world: World, level: float = 1.0, n_steps: int = 16) -> Rollout:
    field = Field(world, self.obs_scale, self.reward_scale)
    terms = Terms(self.games, level, self.config.random, 0.99, None, age_weights=False)
    return field.play(self.players, terms, n_steps, self.luck)


def told(self: HInf, world: World, steps: int = 64) -> list[dict[str, float]]:
    learned = self.learn(world, Alone(), Span(0, 0, steps))
    return [dict(progress.metrics) for progress in learned if progress.safe]


def made(reward: float, cost: float, norm: float, games: int = 2) -> Rollout:
    """Return a rollout of 3 steps in 4 environments that are all alike."""
    rooms = (np.zeros((3, 4, size), np.float32) for size in (4, 1, 2))
    made = Rollout(*rooms)
    made.reward_TE[:], made.cost_TE[:], made.norm_TE[:, :games] = reward, cost, norm
    return made


# 1. The constraint is on cost for each unit of force, not on the force.
def test_the_ratio_is_of_cost_to_force_so_weak_forces_do_not_satisfy_it() -> None:
    for norm in (0.1, 5.0):
        self = agent(eta=0.5, lambda_lr=0.1)
        said = self._bargain(made(0.0, cost=norm, norm=norm), 1.0)
        assert said["ratio"] == pytest.approx(1.0)
        assert said["slack"] == pytest.approx(-1.0)
        assert self.lambda_ == pytest.approx(0.1)
    squared = agent(eta=0.5, norm="squared")
    assert squared._bargain(made(0.0, 4.0, 4.0), 1.0)["ratio"] == pytest.approx(0.25)


# 2. The actor receives the constraint's gradient.
def test_the_gradient_of_the_slack_is_that_of_finite_differences() -> None:
    """Two actions, one of which costs: L = sum over actions of ratio * advantage."""
    born = torch.Generator().manual_seed(0)
    sizes = Sizes(1, 1, (), (), (), 0.0, 0.0)
    players = Players(Box(-1, 1, (1,)), sizes, 1e-5, born)
    actor, rng = players.actor, np.random.default_rng(0)
    obs_BD = rng.normal(size=(50, 1)).astype(np.float32)
    action_BA = rng.normal(size=(50, 1)).astype(np.float32)
    slack_B = np.where(action_BA[:, 0] > 0, -1.0, 0.0).astype(np.float32)
    log_prob_B = players.acts.judge(obs_BD, action_BA)[0].copy()
    zeros_B = np.zeros(50, np.float32)
    turns = Turns(
        obs_BD, action_BA, log_prob_B, slack_B, action_BA, log_prob_B * 0, zeros_B,
        np.zeros((50, 2), np.float32), np.zeros((50, 2), np.float32),
    )  # fmt: skip
    lesson = Lesson(50, 1, 10.0, 1e-3, 1e-3, 1.0, 0.0, 0.0)

    def surrogate() -> float:
        with torch.no_grad():
            now_B, _ = actor.judge(torch.from_numpy(obs_BD), torch.from_numpy(action_BA))
        return float((np.exp(now_B.numpy() - log_prob_B) * slack_B).mean())

    players.gradient(turns, lesson)
    grad = players.flat.grad.clone()
    assert grad[:2].abs().max() > 1e-3
    for i in range(3):  # weight, bias and deviation of the actor
        kept = players.flat.weights[i].item()
        players.flat.weights[i] = kept + 1e-2
        above = surrogate()
        players.flat.weights[i] = kept - 1e-2
        below = surrogate()
        players.flat.weights[i] = kept
        assert -grad[i].item() == pytest.approx((above - below) / 2e-2, rel=0.02, abs=1e-4)


def test_a_price_changes_what_the_actor_learns_and_nothing_else(world: World) -> None:
    free, dear = (agent(lambda_init=price, normalize_reward=False) for price in (0.0, 5.0))
    one = rollout(free, world)
    last_ED = one.obs_TED[-1]
    a, b = (self._judged(one, last_ED) for self in (free, dear))
    assert not np.allclose(a.advantage_B, b.advantage_B)
    assert np.array_equal(a.push_advantage_B, b.push_advantage_B)
    assert np.array_equal(a.return_B2, b.return_B2)


# 3. The sign of the dual step, in its three regimes.
@pytest.mark.parametrize(
    ("cost", "before", "after"), [(2.0, 1.0, 1.1), (0.5, 1.0, 0.95), (0.0, 0.05, 0.0)]
)
def test_violated_it_rises_satisfied_it_falls_and_never_below_0(
    cost: float, before: float, after: float
) -> None:
    self = agent(eta=1.0, lambda_init=before, lambda_lr=0.1)
    self._bargain(made(0.0, cost, 1.0), 1.0)
    assert self.lambda_ == pytest.approx(after)


# 4. A fall costs, though it ends the episode.
def test_a_fall_is_not_cheap(world: World) -> None:
    self = agent(nominal=0.0)
    seen = rollout(self, world, n_steps=19)
    fell_TE = seen.done_TE  # in 19 steps no episode comes to its end otherwise
    assert fell_TE.any()
    assert seen.cost_TE[fell_TE] == pytest.approx(1.0 + 1.0 / (1 - 0.99))
    assert seen.cost_TE[~fell_TE] == pytest.approx(0.0)
    assert not seen.after_TE2[fell_TE].any()


def test_a_fall_may_be_given_its_price(world: World) -> None:
    field = Field(world, agent().obs_scale, agent().reward_scale)
    seen = field.play(
        agent().players, Terms(2, 1.0, Random(), 0.99, 7.0, False), 19, torch.Generator()
    )
    assert seen.cost_TE[seen.done_TE] == pytest.approx(1.0 + 7.0)


# 6. A push is stored with the state in which it was chosen.
def test_a_push_stands_beside_what_was_seen_before_it(world: World) -> None:
    self = agent(nominal=0.0)
    seen = rollout(self, world)
    turns = self._judged(seen, seen.obs_TED[-1])
    mean_BF = self.players.pushes.mean(turns.obs_BD)
    z_BF = (turns.push_BF - mean_BF) / np.exp(self.players.pushes.log_std_A)
    again = torch.Generator()
    again.set_state(agent(nominal=0.0).luck.get_state())
    torch.randn(16, 4, 1, generator=again)  # the actor's
    noise_TEF = torch.randn(16, 4, 2, generator=again).numpy()
    assert z_BF == pytest.approx(noise_TEF.reshape(-1, 2), abs=1e-4)


# 7. A cost is what a reward lacks, never negative and in its unit.
def test_costs_are_shortfalls_in_the_unit_of_the_reward(world: World) -> None:
    seen = rollout(agent(normalize_reward=False), world)
    lives_TE = ~seen.done_TE
    assert seen.cost_TE[lives_TE] == pytest.approx(1.0 - seen.reward_TE[lives_TE])
    assert seen.cost_TE.min() >= 0


# 8. Its norm is that of the force that acted. 9. It is gone after a step, and after a reset.
def test_norms_are_of_what_was_applied(world: World) -> None:
    bare: Any = world.envs.unwrapped
    applied: list[float] = []
    push = bare.push

    def seen(wrench_EB6: Any) -> None:
        applied.extend(np.linalg.norm(wrench_EB6.reshape(4, -1), axis=1).tolist())
        push(wrench_EB6)

    bare.push = seen
    made = rollout(agent(random=Random(scale=0.5)), world)
    assert np.reshape(applied, (16, 4)) == pytest.approx(made.norm_TE)
    assert made.norm_TE.max() <= 5.0
    assert made.norm_TE[:, 2:].max() <= 2.5
    assert all(not data.xfrc_applied.any() for data in bare.datas)


# 10. Warm-up and curriculum, and what was reached is told.
def test_forces_grow_from_nothing_to_the_limit_and_say_so(world: World) -> None:
    said = told(agent(warm_up=0.25, ramp=0.5, nominal=0.0), world, steps=64 * 8)
    levels = [one["force_level"] for one in said]
    assert levels[:2] == [0.0, 0.0]
    assert levels == sorted(levels)
    assert levels[-1] == 1.0
    assert "ratio" not in said[0]  # nobody was pushed: no ratio, and not 0
    first = next(one for one in said if one["force_level"] == 1)
    assert all(one["lambda"] == 0.0 for one in said[: said.index(first)])


# 11. What is stored does not depend on the force of the same step.
def test_values_are_of_states_alone(world: World) -> None:
    self = agent()
    assert self.players.critic.layers[0].weight_OI.shape[1] == 4  # what is seen, and no force
    seen = rollout(self, world)
    values_B2 = self.players.values(seen.obs_TED.reshape(-1, 4))
    assert values_B2.shape == (64, 2)


# 13. Nothing that was played is dropped, in the warm-up neither.
def test_all_that_was_played_is_learned_from(world: World) -> None:
    self = agent(warm_up=0.5)
    seen = rollout(self, world, level=0.0)
    assert len(self._judged(seen, seen.obs_TED[-1]).obs_BD) == 64


# 14. What cannot be attained is said, and lambda stays where it is capped.
def test_what_is_infeasible_is_reported_with_its_ratio(world: World) -> None:
    said = told(agent(eta=1e-6, lambda_lr=1.0, lambda_max=3.0, nominal=0.0), world, 256)[-1]
    assert said["infeasible"] == 1.0
    assert said["lambda"] == 3.0
    assert said["ratio"] > 1e-6
    assert told(agent(eta=1e9, nominal=0.0), world, 64)[-1]["infeasible"] == 0.0


def test_slacks_of_steps_add_up_to_that_of_the_whole() -> None:
    """The telescope: sum of eta m - C + V(s) - V(s') = sum of eta m - C, and the ends."""
    self = agent(slack_trace=0.0, pays="eta", eta=0.5, nominal=0.0, discount=0.9, lambda_init=1.0)
    seen = made(0.0, 2.0, 1.0, games=4)
    rng = np.random.default_rng(0)
    seen.obs_TED[:] = rng.normal(size=seen.obs_TED.shape)
    last_ED = rng.normal(size=(4, 4)).astype(np.float32)
    obs_TED = seen.obs_TED.astype(np.float32)
    seen.obs_TED = obs_TED
    value_TE = self.players.values(obs_TED.reshape(-1, 4))[:, 1].reshape(3, 4)
    next_TE = np.concatenate([value_TE[1:], self.players.values(last_ED)[None, :, 1]])
    slack_TE = 0.5 * 1.0 - 2.0 + value_TE - 0.9 * next_TE
    whole_E = 3 * (0.5 - 2.0) + value_TE[0] - 0.9 * next_TE[-1] + 0.1 * value_TE[1:].sum(0)
    assert slack_TE.sum(0) == pytest.approx(whole_E)
    seen.reward_TE[:] = 0.0
    judged = self._judged(seen, last_ED)
    reward_TE = self.players.values(obs_TED.reshape(-1, 4))[:, 0].reshape(3, 4)
    del reward_TE
    assert judged.return_B2[:, 1] == pytest.approx(
        _gae_return(value_TE, next_TE).reshape(-1), abs=1e-4
    )


def _gae_return(value_TE: Any, next_TE: Any) -> Any:
    """Return what is to be learned of cost - eta m = 1.5 a step, with traces of 0.95."""
    delta_TE = 1.5 + 0.9 * next_TE - value_TE
    later_E, out_TE = np.zeros(4), np.zeros((3, 4))
    for t in (2, 1, 0):
        later_E = delta_TE[t] + 0.9 * 0.95 * later_E
        out_TE[t] = later_E
    return out_TE + value_TE


def test_without_forces_there_is_no_ratio_and_the_disturber_learns_nothing(world: World) -> None:
    self = agent(warm_up=1.0)
    before = self.players.push_flat.weights.clone()
    said = told(self, world)
    assert "ratio" not in said[-1]
    assert torch.equal(before, self.players.push_flat.weights)


def test_players_share_no_gradient(world: World) -> None:
    self = agent(nominal=0.0)
    seen = rollout(self, world)
    turns = self._judged(seen, seen.obs_TED[-1])
    lesson = self._lesson(1.0, 1.0)
    self.players.gradient(turns, lesson)
    actors, pushers = self.players.flat.grad.clone(), self.players.push_flat.grad.clone()
    self.players.gradient(turns._replace(push_advantage_B=turns.push_advantage_B * -3), lesson)
    assert torch.equal(actors, self.players.flat.grad)
    assert not torch.equal(pushers, self.players.push_flat.grad)


def test_groups_count_as_much_as_each_other_however_many_they_are() -> None:
    rng = np.random.default_rng(0)
    gain_TE, count_TE = rng.normal(size=(50, 8)), rng.uniform(0.1, 1, size=(50, 8))
    who_E = np.arange(8) < 3
    of_TE = centred(gain_TE, count_TE, who_E)
    assert of_TE[:, 3:].tolist() == np.zeros((50, 5)).tolist()
    assert of_TE.mean() == pytest.approx(0.0, abs=1e-12)
    weights_TE = count_TE[:, :3] / count_TE[:, :3].sum()
    mean = (weights_TE * gain_TE[:, :3]).sum()
    spread = (weights_TE * (gain_TE[:, :3] - mean) * gain_TE[:, :3]).sum()
    assert (of_TE * gain_TE).mean() == pytest.approx(spread)
    assert np.square(evened(of_TE)).mean() == pytest.approx(1.0, rel=1e-5)


def test_disturbers_are_paid_as_they_were_promised() -> None:
    seen = made(0.0, 2.0, 3.0, games=4)
    for pays, eta, per_step in (("cost", 1.0, 2.0), ("eta", 0.5, 0.5), ("gain", 0.25, 2.0 - 0.75)):
        self = agent(pays=pays, eta=eta, nominal=0.0, discount=0.0, gae_lambda=0.0)
        returned_B2 = self._judged(seen, np.zeros((4, 4), np.float32)).return_B2
        assert returned_B2[:, 1] == pytest.approx(per_step, abs=1e-5)


def test_storing_cost_alone_still_makes_force_dear() -> None:
    seen = made(0.0, 2.0, 3.0, games=4)
    seen.norm_TE[1] = 1.0
    kept = agent(pays="eta", storage="cost", nominal=0.0, discount=0.0, gae_lambda=0.0)
    turns = kept._judged(seen, np.zeros((4, 4), np.float32))
    assert turns.return_B2[:, 1] == pytest.approx(2.0, abs=1e-5)
    push_TE = turns.push_advantage_B.reshape(3, 4)
    assert (push_TE[1] > push_TE[0]).all()


def test_what_it_cannot_learn_it_refuses_by_name() -> None:
    bare = TaskSpec(name="a", env="InvertedPendulum-v5")
    with pytest.raises(SpecError, match="no port"):
        hinf.make(Config(), world_spec([bare], 4), 0)
    with pytest.raises(SpecError, match="of 1 it takes 1"):
        hinf.make(Config(), world_spec([POLE], 1), 0)
    odd: Any = WorldSpec(Discrete(2), Box(-1, 1), 4, (), forces=1)
    with pytest.raises(SpecError, match="must see a Box"):
        hinf.make(Config(), odd, 0)


def test_the_disturber_is_a_distribution_over_forces_that_sees_the_state() -> None:
    self = agent()
    assert isinstance(self.players.disturber, GaussianActor)
    obs_BD = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    assert not np.allclose(*self.players.pushes.mean(obs_BD).copy())
