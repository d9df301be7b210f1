"""A robot of one's own, from the file that names it to the simulation that moves it."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from conftest import tiny
from helpers.robots import ROBOT, check_rollout, ours
from rigorl import playable
from rigorl.errors import SpecError
from rigorl.growth import differences
from rigorl.outside import yaml_file
from rigorl.outside.on_ray import order
from rigorl.spec import Experiment, TaskSpec
from rigorl.tasks import own
from rigorl.tasks.envs import open_env, open_envs
from rigorl.tasks.robots.batched import BatchedMujoco
from rigorl.trial import fingerprint

WALK = TaskSpec(
    name="walk",
    env="Ant-v5",
    robot=ROBOT.read_text(),
    kwargs={"main_body": "torso", "healthy_z_range": [0.18, 0.6], "max_episode_steps": 30},
)
CART = """
<mujoco>
  <worldbody><body><joint name="slide" type="slide"/><geom size="0.1"/></body></worldbody>
  <actuator><motor joint="slide" ctrlrange="-1 1"/></actuator>
</mujoco>
"""
SPEC = """
name: a
question: Is this a question?
arms: {x: {agent: {name: uniform}}}
tasks: [{name: t, env: Ant-v5, robot: models/mine.xml, kwargs: {main_body: torso}}]
budget: {steps: 10, exam_every: 5}
seeds: {test: [0]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.xml").write_text(ROBOT.read_text())
    path = tmp_path / "a.yaml"
    path.write_text(SPEC)
    return path


def model(body: str, root: str = "mujoco") -> str:
    return f"<{root}><worldbody>{body}</worldbody></{root}>"


def refused(task: TaskSpec) -> SpecError:
    spec = tiny(arms={"x": {"agent": {"name": "uniform"}}})
    with pytest.raises(SpecError) as caught:
        playable.check(replace(spec, tasks=(task,)))
    return caught.value


def test_a_batch_of_it_is_gymnasiums() -> None:
    terminated, truncated = check_rollout(WALK, 70, threads=2)
    assert terminated + truncated > 0
    check_rollout(replace(WALK, physics={"mass": {"torso": 2}, "gear": {"hind_left_hip": 0}}), 20)


def test_it_is_stepped_as_a_batch_and_is_not_the_ant() -> None:
    bare: Any = open_envs(WALK, 2, seed=0).unwrapped
    assert isinstance(bare, BatchedMujoco)
    assert bare.models[0].body_mass.sum() == pytest.approx(12.32)
    assert bare.single_action_space.shape == (12,)


def test_it_stands_by_itself() -> None:
    envs = ours(replace(WALK, kwargs={**WALK.kwargs, "max_episode_steps": 300}), 2)
    envs.reset(seed=0)
    for _ in range(200):
        *_, terminated_E, _, _ = envs.step(np.zeros((2, 12), np.float32))
        assert not terminated_E.any()
    assert envs.datas[0].qpos[2] == pytest.approx(0.33, abs=0.02)


def test_a_spec_holds_the_model_and_not_its_name(file: Path) -> None:
    spec = yaml_file.read(file)
    assert spec.tasks[0].robot == ROBOT.read_text()
    moved = file.parent / "elsewhere.xml"
    (file.parent / "models" / "mine.xml").rename(moved)
    for name in ("elsewhere.xml", str(moved)):
        assert yaml_file.read(file, [f"tasks.0.robot={name}"]) == spec
    read_back = msgspec.json.decode(msgspec.json.encode(spec), type=Experiment)
    moved.unlink()  # a worker elsewhere has no such file
    assert playable.check(read_back) == []
    inline = file.with_name("b.yaml")
    inline.write_text(msgspec.json.encode(spec).decode())  # JSON is YAML
    assert yaml_file.read(inline) == spec


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.xml: No such file") as caught:
        yaml_file.read(file, ["tasks.0.robot=none.xml"])
    assert caught.value.at == "$.tasks[0].robot"
    with pytest.raises(SpecError, match=r"this must be `str \| null`, but is `int` 3"):
        yaml_file.read(file, ["tasks.0.robot=3"])


def test_trials_of_another_model_are_others() -> None:
    assert fingerprint(WALK) == fingerprint(replace(WALK, robot=ROBOT.read_text()))
    assert fingerprint(WALK) != fingerprint(replace(WALK, robot=None))
    assert fingerprint(WALK) != fingerprint(replace(WALK, robot=f"{WALK.robot} "))


@pytest.mark.parametrize(
    ("robot", "law"),
    [
        ("<mujoco", "must be a model in XML, but unclosed token"),
        (model("", "robot"), "whose root is `mujoco`, but its root is `robot`"),
        (model('<geom type="mesh" mesh="x"/>'), "MuJoCo takes, but it says: .*mesh"),
        (model('<include file="leg.xml"/>'), "its `include` is read from leg.xml"),
        ('<mujoco><asset><mesh file="a.stl"/></asset></mujoco>', "its `mesh` is read from a.stl"),
        (
            '<mujoco><asset><texture type="cube" fileup="u.png"/></asset></mujoco>',
            "its `texture` is read from u.png",
        ),
        (model('<body><joint/><geom size="0.1"/></body>'), "has 0 actuators and 1 degrees"),
        (CART, "must have what Ant-v5 looks for, but: index 1 is out of bounds"),
    ],
)
def test_a_model_that_cannot_be_played_is_refused(robot: str, law: str) -> None:
    error = refused(replace(WALK, robot=robot))
    assert error.at == "$.tasks[0].robot"
    assert error.message.startswith("a robot must")
    with pytest.raises(SpecError, match=law):
        raise error


@pytest.mark.parametrize(
    ("changes", "law"),
    [
        ({"env": "CartPole-v1", "kwargs": {}}, "but CartPole-v1 does not"),
        ({"env": "HalfCheetah-v4", "kwargs": {}}, "but HalfCheetah-v4 does not"),
        ({"kwargs": {"xml_file": "ant.xml"}}, "but kwargs.xml_file gives another"),
        ({"kwargs": {"main_body": "trunk"}}, "looks for, but: .*Invalid name 'trunk'"),
    ],
)
def test_a_robot_is_refused_where_it_has_no_place(changes: dict[str, Any], law: str) -> None:
    error = refused(replace(WALK, **changes))
    assert error.at == "$.tasks[0].robot"
    with pytest.raises(SpecError, match=law):
        raise error


def test_it_is_opened_again_though_temporary_folders_were_cleaned() -> None:
    for path in Path(own._folder().name).glob("*"):
        path.unlink()
    open_env(WALK).close()  # type: ignore[no-untyped-call]
    assert len(list(Path(own._folder().name).glob("*.xml"))) == 1


def test_an_edited_model_is_shown_by_its_line(file: Path) -> None:
    old = yaml_file.read(file)
    edited = ROBOT.read_text().replace('timestep="0.005"', 'timestep="0.002"')
    (file.parent / "models" / "mine.xml").write_text(edited)
    (said,) = differences(old, yaml_file.read(file))
    line = 1 + next(n for n, text in enumerate(edited.splitlines()) if "timestep" in text)
    assert said.startswith(f"line {line} of `$.tasks[0].robot` was ")
    assert said.count("timestep") == 2
    assert len(said) < 250


def test_it_travels_to_a_cluster_beside_the_spec(file: Path, tmp_path: Path) -> None:
    spec = yaml_file.read(file)
    twice = replace(spec, tasks=(*tiny().tasks[:1], *spec.tasks))
    sent = order.Order(spec=twice, file=file, changes=("budget.steps=20",))
    folder = tmp_path / "work"
    folder.mkdir()
    order.lay_out(sent, folder)
    (name,) = [path.name for path in folder.glob("*.xml")]
    assert (folder / name).read_text() == ROBOT.read_text()
    command = order.entrypoint(sent, {})
    assert f"--set budget.steps=20 --set tasks.1.robot={name}" in command
    order.check_secrets(sent)
    there = yaml_file.read(folder / "a.yaml", [f"tasks.0.robot={name}"])
    assert there == spec
    assert "<mujoco" in order.entrypoint(sent._replace(image="registry/rigorl:1"), {})
