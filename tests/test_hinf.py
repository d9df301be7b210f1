"""H-infinity: each known mistake of such code has its test (5, densities: test_forces.py; 12, the
disturber of the training judges nothing: test_attacker.py).
"""

from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from msgspec.structs import replace

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

PORT = PortSpec(bodies=("cart", "pole"), limit=5.0, axes="x", best=1.0)
POLE = TaskSpec(
    name="pole",
    env="InvertedPendulum-v5",
    kwargs={"max_episode_steps": 20},
    port=PORT,
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
    rules = self.config.age_weights, self.calm
    terms = Terms(self.games, level, self.config.random, 0.99, *rules)
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


# 3. The sign of the dual step, in its three regimes; one bad rollout moves it no further than alpha.
@pytest.mark.parametrize(
    ("cost", "before", "after"),
    [(2.0, 1.0, 1.1), (99.0, 1.0, 1.1), (0.5, 1.0, 0.95), (0.0, 0.05, 0.0)],
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
    assert seen.cost_TE[fell_TE] == pytest.approx(1.0 + 100 * 1.0)
    assert seen.cost_TE[~fell_TE] == pytest.approx(0.0)
    assert not seen.after_TE2[fell_TE].any()


def test_a_fall_may_be_given_its_price() -> None:
    port = replace(PORT, fall=7.0)
    with closing(open_world(replace(POLE, port=port), 4, 3, {})) as world:
        seen = rollout(agent(nominal=0.0), world, n_steps=19)
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
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_forces_grow_from_nothing_to_their_full_strength(world: World, strength: float) -> None:
    settings: Any = {"warm_up": 0.25, "ramp": 0.5, "nominal": 0.0, "strength": strength}
    said = told(agent(**settings), world, steps=64 * 8)
    levels = [one["force_level"] for one in said]
    assert levels == [strength * part for part in (0, 0, 0, 0.25, 0.5, 0.75, 1, 1)]
    assert not any("ratio" in one for one in said[:3])  # nobody was pushed: no ratio, and not 0
    first = next(one for one in said if one["force_level"] == strength)
    assert all(one["lambda"] == 0.0 for one in said[: said.index(first)])
    assert said[-1]["lambda"] > 0


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
    turns = self._judged(seen, seen.obs_TED[-1])
    assert (np.abs(turns.advantage_B.reshape(16, 4)).max(0) > 0).all()
    assert (turns.weight_B2[:, 0] > 0).all()
    pushed = rollout(self, world)  # and now the first two have a disturber, and earn nothing
    weight_TE2 = self._judged(pushed, seen.obs_TED[-1]).weight_B2.reshape(16, 4, 2)
    assert (weight_TE2[:, :2] > 0).tolist() == [[[False, True]] * 2] * 16
    assert (weight_TE2[:, 2:] > 0).tolist() == [[[True, False]] * 2] * 16


# 14. What cannot be attained is said, and lambda stays where it is capped.
def test_what_is_infeasible_is_reported_with_its_ratio(world: World) -> None:
    said = told(agent(eta=1e-6, lambda_lr=1.0, lambda_max=3.0, nominal=0.0), world, 256)[-1]
    assert said["infeasible"] == 1.0
    assert said["lambda"] == 3.0
    assert said["ratio"] > 1e-6
    assert said["kappa"] > 1e-6, "what the ratio was lately"
    assert told(agent(eta=1e9, nominal=0.0), world, 64)[-1]["infeasible"] == 0.0


def test_with_a_margin_a_ratio_counts_for_more_than_it_is() -> None:
    self = agent(eta=0.5, lambda_lr=0.1, pays="gain", margin=0.25)
    for _ in range(200):
        said = self._bargain(made(0.0, cost=1.0, norm=5.0), 1.0)
    assert said["ratio"] == pytest.approx(0.2), "as it is"
    assert said["slack"] == pytest.approx(1 - 0.25 / 0.5)
    assert self.kappa == pytest.approx(0.25), "what the disturber pays"


KAPPA = {"eta": 0.5, "gain": 0.8, "cost": 0.0}


@pytest.mark.parametrize("storage", ["available", "cost"])
@pytest.mark.parametrize("pays", KAPPA)
@pytest.mark.parametrize("trace", [0.0, 0.7])
def test_what_the_actor_gains_is_reward_and_slack_at_its_price(
    pays: str, storage: str, trace: float
) -> None:
    """Slack = kappa m - C + V(s) - 0.9 V(s'), and the next one's for 0.9 * trace of it."""
    how = {"pays": pays, "storage": storage, "slack_trace": trace, "gae_lambda": 0.0}
    self = agent(**how, eta=0.5, nominal=0.0, discount=0.9, lambda_init=3.0, normalize_reward=False)
    self.kappa = 0.8
    seen, last_ED = lively(games=4)
    value_TE2 = self.players.values(seen.obs_TED.reshape(-1, 4)).reshape(3, 4, 2)
    next_TE2 = np.concatenate([value_TE2[1:], self.players.values(last_ED)[None]])
    change_TE2 = value_TE2 - 0.9 * next_TE2
    owed_TE = KAPPA[pays] * seen.norm_TE if storage == "available" else 0.0
    slack_TE = owed_TE - seen.cost_TE + change_TE2[..., 1]
    for t in (1, 0):
        slack_TE[t] += 0.9 * trace * slack_TE[t + 1]
    gain_TE = seen.reward_TE - change_TE2[..., 0]
    price = 3.0 / seen.norm_TE.mean()
    wanted_TE = gain_TE - gain_TE.mean() + price * (slack_TE - slack_TE.mean())
    mine_TE = self._judged(seen, last_ED).advantage_B.reshape(3, 4)
    assert mine_TE == pytest.approx(wanted_TE / np.sqrt(np.square(wanted_TE).mean()), abs=1e-4)


def lively(games: int) -> tuple[Rollout, Any]:
    """Return a rollout in which no two steps are alike, and where it led."""
    seen, rng = made(0.0, 0.0, 0.0), np.random.default_rng(0)
    seen.obs_TED[:] = rng.normal(size=seen.obs_TED.shape)
    seen.cost_TE[:] = rng.uniform(0, 3, size=(3, 4))
    seen.reward_TE[:] = rng.normal(size=(3, 4))
    seen.norm_TE[:, :games] = rng.uniform(0.5, 2, size=(3, games))
    return seen, rng.normal(size=(4, 4)).astype(np.float32)


def test_what_spares_cost_becomes_likelier_than_what_costs() -> None:
    self = agent(lambda_init=10.0, slack_trace=0.0, discount=0.0, pays="cost")
    self.players.flat.weights[:] = 0.0  # of values, too
    seen, last_ED = lively(games=2)
    gain_TE = self._judged(seen, last_ED).advantage_B.reshape(3, 4)[:, :2]
    assert np.corrcoef(gain_TE.ravel(), -seen.cost_TE[:, :2].ravel())[0, 1] > 0.99


def test_steps_count_by_their_age_which_begins_anew_with_each_episode(world: World) -> None:
    self = agent(age_weights=True)
    seen = rollout(self, world, n_steps=45)
    age_E = np.zeros(4)
    for t in range(45):
        assert seen.weight_TE[t] == pytest.approx(0.99**age_E)
        age_E = np.where(seen.done_TE[t], 0, age_E + 1)
    assert seen.done_TE.any()


def test_time_that_is_up_is_no_end() -> None:
    short = replace(POLE, kwargs={"max_episode_steps": 4})
    with closing(open_world(short, 4, 3, {})) as world:
        seen = rollout(agent(nominal=0.0), world, n_steps=5)
    assert np.flatnonzero(seen.done_TE.all(1)).tolist() == [3]
    assert (seen.after_TE2[3] != 0).all()
    assert not seen.after_TE2[[0, 1, 2, 4]].any()
    assert seen.cost_TE.max() == 0


def test_without_forces_there_is_no_ratio_and_the_disturber_learns_nothing(world: World) -> None:
    self = agent(warm_up=0.99)
    before = self.players.push_flat.weights.clone()
    said = told(self, world)
    assert "ratio" not in said[-1]
    assert torch.equal(before, self.players.push_flat.weights)


def test_players_share_no_gradient(world: World) -> None:
    self = agent(nominal=0.0)
    seen = rollout(self, world)
    turns = self._judged(seen, seen.obs_TED[-1])
    lesson = self._lesson(0.0)
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


@pytest.mark.parametrize("age_weights", [False, True])
def test_costs_are_beyond_what_a_step_costs_without_any_force(age_weights: bool) -> None:
    def seen(calm: float) -> Rollout:
        with closing(open_world(POLE, 4, 3, {})) as world:
            self = agent(calm=calm, random=Random(scale=1.0), age_weights=age_weights)
            return rollout(self, world)

    whole, beyond = seen(0.0), seen(0.25)
    weight_T, cost_T = beyond.weight_TE[:, 3], beyond.cost_TE[:, 3]
    assert (weight_T * cost_T).sum() == pytest.approx(0, abs=1e-9)
    (paid,) = {round(x, 9) for x in (whole.cost_TE - beyond.cost_TE)[:, :3].ravel().tolist()}
    assert paid > 0
    assert [norms.any() for norms in beyond.norm_TE.T] == [True, True, True, False]
    assert whole.norm_TE[:, 3].any()


@pytest.mark.parametrize(("calm", "fact"), [(0.75, "but is 3 of 4"), (0.01, "but is 0 of 4")])
def test_calm_is_of_those_without_a_disturber(calm: float, fact: str) -> None:
    with pytest.raises(SpecError, match=fact) as refused:
        agent(calm=calm)
    assert refused.value.at == "$.config.calm"


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


def test_an_odd_actor_does_the_opposite_of_the_opposite(world: World) -> None:
    for odd in (True, False):
        self = agent(odd=odd, normalize_obs=False)
        told(self, world)
        (policy,) = self.policies().values()
        obs_BD = np.random.default_rng(0).normal(size=(16, 4))
        same = np.allclose(policy(obs_BD), -policy(-obs_BD), atol=1e-6)
        assert same == odd


@pytest.mark.parametrize(
    ("config", "law"),
    [
        ({"warm_up": 0.5, "ramp": 0.5}, "add up to less than 1"),
        ({"lambda_init": 20.0}, "lambda_init must be at most lambda_max"),
    ],
)
def test_settings_that_would_turn_the_bound_off_are_refused(
    config: dict[str, float], law: str
) -> None:
    with pytest.raises(ValueError, match=law):
        Config(**config)


@pytest.mark.parametrize(("settled", "way"), [(1.0, 0.5), (0.5, 1.0), (0.2, 1.0)])
def test_a_deviation_that_is_set_is_not_learned_and_goes_evenly(
    world: World, settled: float, way: float
) -> None:
    ends = {"log_std_init": -1.0, "log_std_final": -3.0, "push_log_std_final": -2.0}
    self = agent(nominal=0.0, settled=settled, **ends)
    players = self.players.actor, self.players.disturber
    seen = [
        [player.log_std_A.tolist() for player in players]
        for progress in self.learn(world, Alone(), Span(0, 0, 128))
        if progress.safe
    ]
    first, second = [[-1.0], [0.0, 0.0]], [[-1.0 - 2 * way], [-2 * way, -2 * way]]
    assert seen == [first, second], "of a first and a second half"


def test_a_price_that_is_fixed_is_neither_moved_nor_called_infeasible(world: World) -> None:
    self = agent(lambda_init=9.9, lambda_lr=0.0, eta=1e-6, nominal=0.0)
    assert told(self, world)[-1]["infeasible"] == 0.0
    assert self.lambda_ == 9.9


def test_disturbers_take_turns_and_each_begins_anew(world: World) -> None:
    self = agent(nominal=0.0, disturbers=3, push_lr=1e-2)
    learned = self.learn(world, Alone(), Span(0, 0, 64 * 6))
    seen = [(self.nth, self.players.push_flat.weights.clone()) for _ in learned]
    # Of 24 minibatches of 6 rollouts, each has learned from 8 of 2.
    assert [nth for nth, _ in seen] == [0] * 8 + [1] * 8 + [2] * 8
    strides = [float((b - a).norm()) for (_, a), (_, b) in pairwise(seen)]
    small = strides[:7] + strides[8:15] + strides[16:]
    assert min(strides[7], strides[15]) > 5 * max(small)
    assert self.players.push_adam.steps == 8
    assert self.players.adam.steps == 24


def test_whose_turn_it_is_survives_a_crash(world: World, tmp_path: Path) -> None:
    dead, heir = (agent(nominal=0.0, disturbers=2, push_lr=lr) for lr in (1e-2, 1e-9))
    last = dead.learn(world, Alone(), Span(0, 0, 64 * 4))
    next(step for step in last if step.safe and step.step == 64 * 3)
    dead.save(tmp_path)
    heir.load(tmp_path)
    list(heir.learn(world, Alone(), Span(0, 64 * 3, 64 * 4)))
    known, now = (one.players.push_flat.weights for one in (dead, heir))
    torch.testing.assert_close(now, known, rtol=0, atol=1e-6)
