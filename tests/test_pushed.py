"""Pushes that are written down, and what they are called."""

import copy
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from helpers import scalar
from helpers.histories import FEW
from helpers.scalar import Holds
from rigorl import contract
from rigorl.agents import pushed
from rigorl.agents.pushed import Config, Pushed
from rigorl.contract import Span
from rigorl.errors import SpecError, TrialFailed
from rigorl.outside.in_process import Alone
from rigorl.ports import PortSpec
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import world_spec
from rigorl.tasks.exam import Exam, examine
from rigorl.tasks.pushes import (
    DOWN,
    UP,
    Attack,
    Disturbance,
    Push,
    Sinus,
    directions,
    name,
    parse,
    unit,
)

HOPPER = TaskSpec(
    name="hopper", env="Hopper-v5", port=PortSpec(bodies=("torso", "foot"), limit=40.0, best=0.0)
)
SHARES = st.floats(0.001, 1.0) | st.sampled_from([0.25, 0.5, 1.0])
WAYS = st.sampled_from([0.0, 45.0, 90.0, 51.43, 359.0, UP, DOWN]) | st.floats(0, 359)
BODIES = st.text(min_size=1, max_size=12)
COUNTS = st.integers(1, 10_000)
ALL = st.one_of(
    st.builds(Attack, st.integers(0, 99), SHARES),
    st.builds(Push, BODIES, SHARES, WAYS, COUNTS),
    st.builds(Sinus, BODIES, SHARES, WAYS, COUNTS),
)
OBS = np.zeros((4, 1))


# Names


@FEW
@given(ALL)
def test_a_name_is_read_back_as_what_it_was(what: Disturbance) -> None:
    text = name(what)
    assert parse(text) == what
    assert type(parse(text)) is type(what)
    assert "/" not in text, "it is a folder, and the end of a metric"


@FEW
@given(st.text(max_size=30))
def test_what_is_no_such_name_is_none(text: str) -> None:
    found = parse(text)
    assert found is None or name(found) == text


@pytest.mark.parametrize(
    ("what", "text"),
    [
        (Attack(0, 0.25), "attack-0@0.25"),
        (Attack(12, 0.125), "attack-12@0.125"),
        (Push("torso", 0.5, 90.0, 10), "push:torso:0.50:090:10"),
        (Push("a:b/c", 1.0, UP, 1), "push:a%3Ab%2Fc:1.00:up:1"),
        (Sinus("torso", 0.5, 0.0, 32), "sinus:torso:0.50:000:32"),
        (Sinus("foot", 0.5, 51.43, 8), "sinus:foot:0.50:51.43:8"),
    ],
)
def test_names_are_as_people_write_them(what: Disturbance, text: str) -> None:
    assert name(what) == text
    assert parse(text) == what


@pytest.mark.parametrize(
    "text",
    ["nominal", "ppo", "push:torso:0.5:090:10", "push:torso", "attack-x@1.00", "attack-0@nan", ""],
)
def test_other_policies_are_not_taken_for_pushes(text: str) -> None:
    assert parse(text) is None


# Directions


def test_ways_go_around_the_circle_of_what_there_is() -> None:
    assert directions(1, 8) == (0.0, 180.0)
    assert directions(2, 4) == (0.0, 90.0, 180.0, 270.0)
    assert directions(3, 4) == (0.0, 90.0, 180.0, 270.0, UP, DOWN)
    assert directions(2, 7)[1] == 51.43
    assert unit(180.0, 1) == (-1.0,)
    assert unit(90.0, 2) == (0.0, 1.0)
    assert unit(270.0, 3) == (0.0, -1.0, 0.0)
    assert unit(DOWN, 3) == (0.0, 0.0, -1.0)


@FEW
@given(st.integers(2, 24), st.integers(1, 3))
def test_every_way_is_of_length_1_and_no_two_are_the_same(count: int, axes: int) -> None:
    found = [unit(way, axes) for way in directions(axes, count)]
    assert {len(way) for way in found} == {axes}
    assert all(math.hypot(*way) == pytest.approx(1) for way in found)
    assert all(math.dist(a, b) > 0.1 for a, b in pairwise(sorted(found)))


# Pushes


def agent(config: Config, task: TaskSpec = HOPPER) -> Pushed:
    world = world_spec([task], 1)
    found = pushed.make(config, replaced(world, given=True), 0)
    found.given, found.limit = {"holds": Holds(0.5)}, 40.0
    return found


def replaced(world: Any, **changes: Any) -> Any:
    return type(world)(**{**vars(world), **changes})


def forces(policy: Any, steps: int) -> list[list[float]]:
    return [policy.push(OBS)[0].tolist() for _ in range(steps)]


def test_the_grid_has_every_body_strength_way_and_duration() -> None:
    config = Config(strengths=(0.5, 1.0), directions=4, durations=(1, 5), sinus=(8, 16, 32))
    found = list(agent(config).policies())
    assert found[0] == "nominal"
    assert len(found) == len(set(found)) == 1 + 2 * 2 * 4 * (2 + 3)
    assert "push:foot:0.50:270:5" in found
    assert "sinus:torso:1.00:180:32" in found


def test_a_push_is_of_its_body_only_and_only_for_its_time() -> None:
    found = agent(Config(directions=4, durations=(2,), at=3)).policies()
    up = [0.0, 0.0, 0.0, 20.0]  # x and z of the torso, then of the foot
    nothing = [0.0] * 4
    assert forces(found["push:foot:0.50:090:2"], 7) == [nothing] * 3 + [up] * 2 + [nothing] * 2
    assert forces(found["push:torso:1.00:180:2"], 4)[3] == [-40.0, 0.0, 0.0, 0.0]


def test_a_sine_swings_along_its_way_with_its_period() -> None:
    found: Any = agent(Config(directions=4, sinus=(8,))).policies()["sinus:torso:0.50:000:8"]
    seen = np.array(forces(found, 16))
    assert seen[:, 0] == pytest.approx(20 * np.sin(np.arange(16) * np.pi / 4))
    assert not seen[:, 1:].any()


def test_a_copy_begins_anew() -> None:
    found: Any = agent(Config(at=0, durations=(1,))).policies()["push:foot:1.00:000:1"]
    assert forces(found, 2)[1] == [0.0] * 4
    assert forces(copy.deepcopy(found), 1) == [[0.0, 0.0, 40.0, 0.0]]


def test_chunks_of_an_exam_are_all_pushed() -> None:
    class Idle(Holds):
        def __call__(self, obs: Any) -> Any:
            return np.zeros((len(obs), 3), np.float32)

    one = agent(Config(at=2, durations=(3,)))
    one.given = {"idle": Idle(0)}
    told = examine(Exam(HOPPER, one.policies()["push:torso:0.25:000:3"], tuple(range(18)), 8))
    assert [strain.force for strain in told.strain] == pytest.approx([3 * 10.0] * 18)


def test_a_port_of_all_axes_is_pushed_up_and_down_too() -> None:
    port = PortSpec(bodies=("torso",), limit=40.0, best=0.0)
    found = list(agent(Config(directions=4), TaskSpec(name="a", env="Ant-v5", port=port)).grid())
    assert {what.direction for what in found} == {0.0, 90.0, 180.0, 270.0, UP, DOWN}


def test_a_system_is_pushed_as_a_whole_or_one_number_at_a_time() -> None:
    spec = scalar.spec(1)
    one = pushed.make(Config(), spec, 0)
    assert {what.body for what in one.grid()} == {"system"}
    assert {what.direction for what in one.grid()} == {0.0, 180.0}
    many = pushed.make(Config(), replaced(spec, forces=5), 0)
    assert {what.body for what in many.grid()} == set("01234")
    many.given, many.limit = {"holds": Holds(0.5)}, 2.0
    (force,) = forces(many.policies()["push:3:0.50:180:10"], 51)[50:]
    assert force == [0.0, 0.0, 0.0, -1.0, 0.0]


def test_it_learns_nothing_and_its_policies_are_kept(tmp_path: Path) -> None:
    world, _ = scalar.world(1, Holds(0.9))
    one = pushed.make(Config(at=0, sinus=(4,)), scalar.spec(1), 0)
    assert one.policies() == {}
    assert [p.step for p in one.learn(world, Alone(), Span(0, 0, 70))] == [70]
    found: Any = one.policies()
    contract.save_policies(found, tmp_path)
    for key, policy in contract.load_policies(tmp_path).items():
        again: Any = policy
        assert np.array_equal(again(OBS + 1), found[key](OBS + 1))
        if key != "nominal":
            assert forces(again, 5) == forces(copy.deepcopy(found[key]), 5)


# Refused


def test_several_policies_are_refused_by_name() -> None:
    world, _ = scalar.world(1, Holds(0.9))
    one = pushed.make(Config(), scalar.spec(1), 0)
    world.given["second"] = Holds(0.8)  # type: ignore[index]
    with pytest.raises(TrialFailed, match="pushed must come after an arm with one policy"):
        list(one.learn(world, Alone(), Span(0, 0, 7)))


@pytest.mark.parametrize("changes", [{"strengths": ()}, {"durations": ()}])
def test_a_grid_of_nothing_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="something to push with"):
        pushed.make(changed(Config(), **changes), scalar.spec(1), 0)
    with pytest.raises(ValueError, match="durations must differ"):
        Config(durations=(3, 3))


# A linear system, whose response to every frequency is known


def test_the_response_to_a_sine_is_that_of_the_closed_loop() -> None:
    A, B = np.array([[1, 0.1], [0, 1]]), np.array([[0.005], [0.1]])
    K, Q, R = np.array([[2.76235, 2.50754]]), np.diag([1, 0.1]), 0.1
    numbers = {"A": A.tolist(), "B": B.tolist(), "D": B.tolist(), "Q": Q.tolist(), "R": R}
    task = TaskSpec(
        name="lq", env="rigorl/LinearQuadratic-v0", kwargs={**numbers, "steps": 3_000},
        port=PortSpec(limit=1.0, best=0.0),
    )  # fmt: skip

    class Linear(Holds):
        def __call__(self, obs: Any) -> Any:
            return -obs @ K.T

    config = Config(strengths=(0.5,), durations=(), sinus=(8, 56))  # 56: where it is largest
    found = pushed.make(config, replaced(world_spec([task], 1), given=True), 0)
    found.given, found.limit = {"linear": Linear(0)}, 1.0
    worst = 0.523082  # the gain, from its Riccati equation
    for period in config.sinus:
        (strain,) = examine(
            Exam(task, found.policies()[f"sinus:system:0.50:000:{period}"], (0,))
        ).strain
        loop = np.exp(2j * np.pi / period) * np.eye(2) - A + B @ K
        seen = np.concatenate([np.sqrt(Q), -np.sqrt(R) * K]) @ np.linalg.solve(loop, B)
        response = math.sqrt(strain.cost / strain.energy)
        assert response == pytest.approx(float(np.linalg.norm(seen)), rel=0.01)
    assert response == pytest.approx(worst, rel=0.01)
