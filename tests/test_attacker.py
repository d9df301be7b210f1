"""Disturbers that learn to push where it hurts."""

import copy
import pickle
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace as changed

from helpers import scalar
from helpers.scalar import Holds
from rigorl import contract
from rigorl.agents import attacker
from rigorl.agents.attacker import Attacker, Config
from rigorl.contract import Span
from rigorl.errors import SpecError, TrialFailed
from rigorl.outside.in_process import Alone
from rigorl.ports import PortSpec
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_world, world_spec
from rigorl.tasks.exam import Exam, examine
from rigorl.tasks.world import Pusher

QUARTERS = (0.25, 0.5, 0.75, 1.0)
SMALL = Config(strengths=QUARTERS, n_steps=20, epochs=1, minibatch=40, hidden=(8,))
X = np.linspace(-2, 2, 16)[:, None]


def learned(config: Config, steps: int, num_envs: int = 8, k: float = 0.9) -> Attacker:
    world, _ = scalar.world(num_envs, Holds(k))
    agent = attacker.make(config, scalar.spec(num_envs), 1)
    list(agent.learn(world, Alone(), Span(0, 0, steps)))
    return agent


@pytest.mark.parametrize("pays", ["cost", "gain"])
def test_it_finds_the_worst_ratio_of_a_linear_system_and_never_beats_it(pays: Any) -> None:
    worst = (1 + 0.9**2) / (1 - 1.1 + 0.9) ** 2
    config = Config(
        attackers=1, strengths=(1.0,), pays=pays, norm="squared", n_steps=100, lr=3e-3,
        epochs=5, hidden=(16,), discount=0.95,
    )  # fmt: skip
    found = learned(config, 16_000).policies()["attack-0@1.00"]
    assert 0.92 * worst < scalar.ratio(found) < worst * 1.001


def test_it_finds_the_frequency_that_hurts_most() -> None:
    """A double integrator held by the LQ regulator answers most to a period of 56 steps."""
    world_, gain = {"start": 0.1, "steps": 400}, 0.523082
    numbers = {"A": [[1, 0.1], [0, 1]], "Q": [[1, 0], [0, 0.1]], "R": 0.1}
    numbers |= {name: [[0.005], [0.1]] for name in ("B", "D")}
    task = TaskSpec(
        name="lq", env="rigorl/LinearQuadratic-v0", kwargs={**numbers, **world_},
        port=PortSpec(limit=1.0, best=0.0),
    )  # fmt: skip
    config = Config(
        attackers=1, strengths=(1.0,), pays="gain", norm="squared", n_steps=200, lr=3e-3,
        lr_schedule="linear", epochs=5, minibatch=256, hidden=(32, 32),
    )  # fmt: skip
    with closing(open_world(task, 16, 0, {"regulator": Regulator()})) as world:
        spec = replace(world_spec([task], 16), given=True)
        agent = attacker.make(config, spec, 0)
        list(agent.learn(world, Alone(), Span(0, 0, 80_000)))
    calm = changed(task, kwargs={**task.kwargs, "start": 0.01, "steps": 1_000})
    told = examine(Exam(calm, agent.policies()["attack-0@1.00"], (0, 1, 2))).strain
    for one in told:
        assert 0.95 * gain**2 < one.cost / one.energy < 1.002 * gain**2


class Regulator:
    def __call__(self, obs: Any) -> Any:
        return -obs @ np.array([[2.76235], [2.50754]])

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def test_a_force_is_a_share_of_the_limit_and_of_a_small_one_too() -> None:
    found = learned(SMALL, 320).policies()
    assert list(found) == [
        "nominal",
        *(f"attack-{n}@{s}" for n in (0, 1) for s in ("0.25", "0.50", "0.75", "1.00")),
    ]
    assert not isinstance(found["nominal"], Pusher)
    for name, policy in found.items():
        if isinstance(policy, Pusher):
            share = float(name.partition("@")[2])
            far = policy.push(1e6 * X)
            assert 0 < np.abs(far).max() <= share + 1e-9
            assert far.shape == (16, 1)


def test_in_learning_too() -> None:
    world, envs = scalar.world(8, Holds(0.9))
    agent = attacker.make(changed(SMALL, strengths=(0.25,)), scalar.spec(8), 1)
    list(agent.learn(world, Alone(), Span(0, 0, 320)))
    assert 0 < np.abs(envs.pushed).max() <= 0.25
    assert np.allclose(np.abs(envs.pushed)[20:, :4], agent.attacks[0]._norm_TE)


def test_one_attacker_knows_how_strong_it_is() -> None:
    """What it does at half the strength is not half of what it does at full strength."""
    found: dict[str, Any] = dict(learned(SMALL, 1_600).policies())
    half, whole = (found[f"attack-0@{s}"].push(X) for s in ("0.50", "1.00"))
    assert not np.allclose(2 * half, whole)


def test_attackers_have_luck_and_environments_of_their_own() -> None:
    found: dict[str, Any] = dict(learned(SMALL, 320).policies())
    assert not np.allclose(found["attack-0@1.00"].push(X), found["attack-1@1.00"].push(X))


def test_the_victim_acts_once_on_all_and_is_pushed_by_all() -> None:
    victim = Holds(0.9)
    world, envs = scalar.world(8, victim)
    agent = attacker.make(SMALL, scalar.spec(8), 1)
    list(agent.learn(world, Alone(), Span(0, 0, 160)))
    assert victim.asked == [8] * 20
    assert len(envs.pushed) == 20
    assert (np.abs(envs.pushed).max(0) > 0).all()


def test_strengths_are_drawn_when_episodes_begin() -> None:
    world, _ = scalar.world(8, Holds(0.9))
    agent = attacker.make(SMALL, scalar.spec(8), 1)
    rounds = (p for p in agent.learn(world, Alone(), Span(0, 0, 8 * 1_000)) if p.safe)
    levels_NE = np.array([[attack.level_E for attack in agent.attacks] for _ in rounds])
    levels_NE = levels_NE.reshape(-1, 8)  # a row each twenty steps; episodes last a hundred
    assert (levels_NE[:4] == levels_NE[0]).all()
    assert (levels_NE[4] != levels_NE[0]).any()
    assert set(levels_NE.flat) == {0, 1, 2, 3}


def test_kappa_is_the_ratio_that_each_strength_has_shown() -> None:
    config = changed(SMALL, attackers=1, strengths=(0.5, 1.0), pays="gain", norm="squared")
    agent = attacker.make(config, scalar.spec(2), 1)
    (attack,) = agent.attacks
    attack.begin(np.zeros((2, 1)))
    attack.expect(2)
    attack.level_E = np.array([0, 1])
    for t in range(2):
        attack.push(t, 1.0)
        attack._norm_TE[t] = [0.5, 1.0]
        attack.take(t, np.array([1.0, 3.0]), np.zeros((2, 1)), np.zeros(2, np.bool_), None)
    told = attack._bargain()
    assert attack.kappa_K.tolist() == [4.0, 3.0]
    assert told == {"cost": 2.0, "force": 0.75, "kappa": 4.0}
    attack._cost_TE[:] = [2.0, 3.0]
    attack._bargain()
    assert attack.kappa_K.tolist() == pytest.approx([4.0 + 0.2 * 4.0, 3.0])


def test_who_pays_for_force_earns_the_cost_less_its_price() -> None:
    config = changed(SMALL, attackers=1, strengths=(1.0,), pays="gain", normalize_reward=False)
    (attack,) = attacker.make(config, scalar.spec(2), 1).attacks
    attack.begin(np.zeros((2, 1)))
    attack.expect(1)
    attack.kappa_K[:] = 2.0
    attack.push(0, 1.0)
    attack._norm_TE[0] = [0.5, 1.0]
    attack.take(0, np.array([3.0, 3.0]), np.zeros((2, 1)), np.zeros(2, np.bool_), None)
    assert attack._rollout.reward_TE.tolist() == [[2.0, 1.0]]


def test_its_policies_are_kept_with_their_victims(tmp_path: Path) -> None:
    found = learned(SMALL, 160).policies()
    contract.save_policies(found, tmp_path / "kept")
    loaded = contract.load_policies(tmp_path / "kept")
    assert loaded.keys() == found.keys()
    for name, policy in loaded.items():
        before: Any = found[name]
        assert np.array_equal(policy(X), before(X))
        if isinstance(policy, Pusher):
            sent = pickle.loads(pickle.dumps(policy))  # noqa: S301  as to a crew
            assert np.array_equal(policy.push(X), before.push(X))
            assert np.array_equal(sent.push(X), before.push(X))


def test_what_is_learned_later_does_not_reach_a_policy() -> None:
    world, _ = scalar.world(8, Holds(0.9))
    agent = attacker.make(SMALL, scalar.spec(8), 1)
    learner = agent.learn(world, Alone(), Span(0, 0, 640))
    next(learner)
    early: Any = agent.policies()["attack-0@1.00"]
    before = early.push(X)
    list(learner)
    late: Any = agent.policies()["attack-0@1.00"]
    assert np.array_equal(early.push(X), before)
    assert not np.allclose(late.push(X), before)


def test_a_robot_is_pushed_in_exams_as_hard_as_the_name_says() -> None:
    task = TaskSpec(name="h", env="Hopper-v5", port=PortSpec(bodies=("torso",), limit=50.0, best=3))
    spec = world_spec([task], 2)
    agent = Attacker(SMALL, spec, 0)
    agent.given, agent.limit = {"idle": Idle()}, 50.0
    found: Any = agent.policies()["attack-1@0.50"]
    told = examine(Exam(task, found, (0, 1), 10))
    again = examine(Exam(task, copy.deepcopy(found), (0, 1), 10))
    assert 0 < told.strain[0].force <= 10 * 25
    assert again.strain == told.strain


class Idle:
    def __call__(self, obs: Any) -> Any:
        return np.zeros((len(obs), 3), np.float32)

    def save(self, folder: Path) -> None:
        raise NotImplementedError


# Refused


def refused(config: Config = SMALL, **changes: Any) -> pytest.ExceptionInfo[SpecError]:
    parts = {**vars(scalar.spec(8)), **changes}
    with pytest.raises(SpecError) as caught:
        attacker.make(config, type(scalar.spec(8))(**parts), 0)
    return caught


def test_a_world_without_victim_or_port_is_refused() -> None:
    assert "add `after: <arm>`" in str(refused(given=False).value)
    assert "give each a `port`" in str(refused(forces=0).value)


def test_attackers_share_environments_evenly_or_are_refused() -> None:
    caught = refused(num_envs=9)
    assert "is 9 for 2; write budget.num_envs: 10" in str(caught.value)
    assert caught.value.at == "$.config.attackers"


@pytest.mark.parametrize(
    "port", [PortSpec(limit=2.0, best=0.0), PortSpec(limit=1.0, bodies=("a",), best=0.0), None]
)
def test_tasks_with_other_ports_are_refused(port: PortSpec | None) -> None:
    other = changed(scalar.TASK, name="other", port=port)
    if port is None:
        weight = PortSpec(limit=1.0, unit="weight", best=0.0)
        pair = (changed(scalar.TASK, port=weight), changed(other, port=weight))
    else:
        pair = (scalar.TASK, other)
    assert "must share their port" in str(refused(tasks=pair).value)


def test_several_policies_are_refused_by_name() -> None:
    world, _ = scalar.world(8, Holds(0.9))
    agent = attacker.make(SMALL, scalar.spec(8), 1)
    world.given["second"] = Holds(0.8)  # type: ignore[index]
    with pytest.raises(TrialFailed, match="has 2: holds, second; name another arm"):
        list(agent.learn(world, Alone(), Span(0, 0, 160)))


@pytest.mark.parametrize("strengths", [(), (0.0,), (1.5,), (0.5, 0.5)])
def test_strengths_are_shares_that_differ(strengths: tuple[float, ...]) -> None:
    text = msgspec.json.encode({"strengths": strengths})
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Config)
