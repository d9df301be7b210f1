"""What `physics:` changes, by hand."""

import logging
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco  # type: ignore[import-untyped]
import numpy as np
import pytest
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

from rigorl.errors import SpecError
from rigorl.spec import Physics, TaskSpec
from rigorl.tasks import physics
from rigorl.tasks.envs import open_env

CARTPOLE = TaskSpec(name="cartpole", env="CartPole-v1")
CHEETAH = TaskSpec(name="cheetah", env="HalfCheetah-v5")
WALKER = TaskSpec(name="walker", env="Walker2d-v5")

gym.register("rigorl-test/Bare-v0", entry_point=lambda **_: gym.Env())


def bare(task: TaskSpec, **physics: Any) -> Any:
    return open_env(TaskSpec(name=task.name, env=task.env, physics=physics)).unwrapped


def test_a_longer_pole_changes_what_follows_from_it() -> None:
    env = bare(CARTPOLE, pole_length=1.0, masspole=0.3, gravity=-1.5)
    assert (env.length, env.masspole, env.gravity) == (1.0, 0.3, -1.5)
    assert env.total_mass == 0.3 + 1.0
    assert env.polemass_length == 0.3 * 1.0


@pytest.mark.parametrize(
    ("env", "physics", "attribute", "value"),
    [
        ("Pendulum-v1", {"gravity": 5}, "g", 5.0),
        ("Pendulum-v1", {"mass": 2.0}, "m", 2.0),
        ("Acrobot-v1", {"link_mass_2": 3.0}, "LINK_MASS_2", 3.0),
        ("MountainCar-v0", {"force": 0.002}, "force", 0.002),
        ("MountainCarContinuous-v0", {"force": 0.003}, "power", 0.003),
    ],
)
def test_classic_control_takes_absolute_values(
    env: str, physics: Physics, attribute: str, value: float
) -> None:
    task = TaskSpec(name="task", env=env, physics=physics)
    plain = TaskSpec(name="task", env=env)
    assert getattr(open_env(task).unwrapped, attribute) == value
    assert getattr(open_env(plain).unwrapped, attribute) != value  # no class was touched
    assert rollout(task) != rollout(plain)


def rollout(task: TaskSpec) -> list[float]:
    env = open_env(task)
    env.action_space.seed(0)
    env.reset(seed=0)
    return [float(x) for _ in range(5) for x in env.step(env.action_space.sample())[0]]


def test_physics_leave_alone_what_they_do_not_name() -> None:
    plain, same = bare(CHEETAH), bare(CHEETAH, mass=1, friction=1.0, gravity=9.81)
    for name in dir(plain.model):
        value = getattr(plain.model, name)
        if not name.startswith("_") and isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(same.model, name), err_msg=name)


def test_mujoco_scales_all_or_some() -> None:
    plain = bare(CHEETAH).model
    heavy = bare(CHEETAH, mass=2).model
    assert heavy.body_subtreemass[0] == pytest.approx(2 * plain.body_subtreemass[0])
    np.testing.assert_allclose(heavy.body_inertia, 2 * plain.body_inertia)
    torso = bare(CHEETAH, mass={"torso": 3}).model
    grown = torso.body_mass / np.maximum(plain.body_mass, 1e-9)
    assert dict(zip(range(8), grown.round(6), strict=True))[1] == 3
    np.testing.assert_allclose(grown[2:], 1)
    slick = bare(CHEETAH, friction={"floor": 0.5, "torso": 0.25}).model  # torso: two geoms
    np.testing.assert_allclose(slick.geom_friction[:, 0] / 0.4, [0.5, 0.25, 0.25, *[1] * 6])
    np.testing.assert_array_equal(slick.geom_friction[:, 1:], plain.geom_friction[:, 1:])
    loose = bare(CHEETAH, damping={"bfoot": 0.1}).model
    np.testing.assert_allclose(loose.dof_damping[3:6], plain.dof_damping[3:6] * [1, 1, 0.1])


def test_a_damaged_joint_exerts_less_and_is_named_by_its_motor_or_itself() -> None:
    plain = bare(WALKER).model
    for damage, scales in (
        ({"gear": {"leg_joint": 0.0, "foot_left_joint": 0.25}}, [1, 0, 1, 1, 1, 0.25]),
        ({"gear": 0.5}, [0.5] * 6),
    ):
        env = bare(WALKER, **damage)
        np.testing.assert_allclose(env.model.actuator_gear[:, 0], 100 * np.array(scales))
        env.reset(seed=0)
        env.data.ctrl[:] = 1
        mujoco.mj_forward(env.model, env.data)
        np.testing.assert_allclose(env.data.qfrc_actuator[3:], 100 * np.array(scales))
    np.testing.assert_array_equal(plain.actuator_gear[:, 0], 100)
    named = bare(CHEETAH, gear={"bshin": 0}).model  # the name of a motor, and of its joint
    assert named.actuator_gear[:3, 0].tolist() == [120, 0, 60]


def test_a_motor_that_drives_no_joint_goes_by_its_own_name() -> None:
    text = """<mujoco><worldbody><body name="b"><joint name="j"/><geom size="1"/></body>
        <site name="s"/></worldbody>
        <actuator><motor name="pull" site="s" gear="1 2 0 0 0 0"/>
        <motor name="turn" joint="j" gear="3"/><motor joint="j" gear="5"/></actuator></mujoco>"""
    for names, gears in (({"pull": 0.5}, (0.5, 3, 5)), ({"j": 0.5}, (1, 1.5, 2.5))):
        model = mujoco.MjModel.from_xml_string(text)
        physics.alter(model, {"gear": names}, "physics")
        assert tuple(model.actuator_gear[:, 0]) == gears
        assert model.actuator_gear[0, 1] == 2 * gears[0]
    with pytest.raises(SpecError, match="once per joint or actuator, but some names overlap"):
        physics.alter(model, {"gear": {"turn": 0.5, "j": 0.5}}, "physics")


def test_mass_is_what_the_model_would_be_had_it_been_written_so() -> None:
    spec = mujoco.MjSpec.from_file(HopperEnv().fullpath)
    for geom in spec.geoms:
        geom.density *= 3
    written, altered = spec.compile(), bare(TaskSpec(name="h", env="Hopper-v5"), mass=3).model
    for name in ("body_mass", "body_inertia", "body_subtreemass", "body_invweight0"):
        np.testing.assert_allclose(getattr(altered, name), getattr(written, name), rtol=1e-9)
    np.testing.assert_allclose(altered.dof_M0, written.dof_M0, rtol=1e-9)
    np.testing.assert_allclose(altered.dof_invweight0, written.dof_invweight0, rtol=1e-9)


@pytest.mark.parametrize("gravity", [4.0, (0.0, 0.0, -4.0), [1.0, 0.0, -4.0]])
def test_gravity_pulls(gravity: Any) -> None:
    env = bare(CHEETAH, gravity=gravity)
    env.reset(seed=0)
    env.data.qpos[1] += 100  # far above the floor
    env.data.qvel[:] = 0
    mujoco.mj_forward(env.model, env.data)
    weight_x, weight_z = -env.data.qfrc_bias[:2] / env.model.body_mass.sum()
    sideways = gravity[0] if isinstance(gravity, (list, tuple)) else 0
    assert weight_z == pytest.approx(-4)
    assert weight_x == pytest.approx(sideways)
    env.step(np.zeros(6))
    assert env.data.qvel[1] < 0


@pytest.mark.parametrize(
    ("env", "physics", "at", "words"),
    [
        ("HalfCheetah-v5", {"gravty": 1.0}, "$.physics.gravty", "did you mean 'gravity'"),
        ("HalfCheetah-v5", {"mass": {"torzo": 2}}, "$.physics.mass.torzo", "mean 'torso'"),
        ("HalfCheetah-v5", {"mass": -1.0}, "$.physics.mass", "above 0, but is -1.0"),
        ("HalfCheetah-v5", {"mass": (1.0, 2.0)}, "$.physics.mass", "must be a number"),
        ("HalfCheetah-v5", {"friction": {"bfoot": 0}}, "$.physics.friction.bfoot", "above 0"),
        ("HalfCheetah-v5", {"friction": {"head": 2, "torso": 2}}, "$.physics.friction", "once"),
        (
            "HalfCheetah-v5",
            {"damping": {"rootx": 2}},
            "$.physics.damping.rootx",
            "has none; choose one of bfoot",
        ),
        ("HalfCheetah-v5", {"gravity": (1.0, 2.0)}, "$.physics.gravity", "3 components"),
        ("HalfCheetah-v5", {"gravity": np.inf}, "$.physics.gravity", "finite, but is inf"),
        ("Walker2d-v5", {"gear": {"leg_jiont": 0}}, "$.physics.gear.leg_jiont", "mean 'leg_joint'"),
        (
            "Walker2d-v5",
            {"gear": {"rootz": 0.5}},
            "$.physics.gear.rootz",
            "a joint or actuator that has some, but 'rootz' has none; choose one of foot_joint",
        ),
        ("Walker2d-v5", {"gear": -0.5}, "$.physics.gear", "finite and not below 0, but is -0.5"),
        ("Swimmer-v5", {"damping": 2.0}, "$.physics.damping", "something to scale"),
        ("CartPole-v1", {"pole_lenght": 1.0}, "$.physics.pole_lenght", "mean 'pole_length'"),
        ("CartPole-v1", {"length": 1, "pole_length": 1}, "$.physics.pole_length", "once"),
        ("CartPole-v1", {"length": {"pole": 1.0}}, "$.physics.length", "must be a number"),
        ("CartPole-v1", {"masspole": 0.0}, "$.physics.masspole", "above 0"),
        (
            "Pendulum-v1",
            {"max_torque": 5.0},
            "$.physics.max_torque",
            "choose one of g, gravity",
        ),
        ("rigorl-test/Bare-v0", {"gravity": 1.0}, "$.physics", "MuJoCo or classic-control"),
    ],
)
def test_impossible_physics_are_refused(env: str, physics: Any, at: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        open_env(TaskSpec(name="task", env=env, physics=physics))
    assert caught.value.at == at
    assert words in caught.value.message


def test_mujoco_leaves_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(physics, "_unstable", [])
    env: Any = bare(CHEETAH)
    with caplog.at_level(logging.DEBUG, logger=physics.__name__):
        for _ in range(2):
            env.reset(seed=0)
            env.data.qvel[:] = 1e300
            env.step(np.zeros(6))
    assert physics.unstable_count() == 2
    told = [record.levelname for record in caplog.records if "unstable" in record.message]
    assert told == ["WARNING", "DEBUG"]  # once aloud: the others are counted
    assert not list(tmp_path.iterdir())
