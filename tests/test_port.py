"""Where a task can be disturbed, and what it costs."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from rigorl.errors import SpecError, TrialFailed
from rigorl.ports import PortSpec
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_env, open_world, world_spec
from rigorl.tasks.exam import Exam, examine
from rigorl.tasks.gauge import shortfall, summary
from rigorl.trial import fingerprint

HOPPER = TaskSpec(
    name="hopper", env="Hopper-v5", port=PortSpec(bodies=("torso",), limit=50.0, best=0.0)
)
WEIGHT = 15.75 * 9.81


def hopper(**changes: Any) -> TaskSpec:
    parts: dict[str, Any] = {"bodies": ("torso",), "limit": 50.0, "best": 0.0, **changes}
    return replace(HOPPER, port=PortSpec(**parts))


class Leans:
    """Acts not at all, and pushes all bodies the same way."""

    def __init__(self, force_F: list[float]) -> None:
        self.force_F = force_F

    def __call__(self, obs: NDArray[Any]) -> NDArray[Any]:
        return np.zeros((len(obs), 3), np.float32)

    def push(self, obs: NDArray[Any]) -> NDArray[Any]:
        return np.tile(self.force_F, (len(obs), 1))

    def save(self, folder: Path) -> None:
        raise NotImplementedError


class Idle:
    def __call__(self, obs: NDArray[Any]) -> NDArray[Any]:
        return np.zeros((len(obs), 3), np.float32)

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def examined(policy: Any, task: TaskSpec = HOPPER, horizon: int | None = 20) -> Any:
    return examine(Exam(task, policy, tuple(range(3)), horizon))


def test_a_planar_robot_is_pushed_in_its_plane() -> None:
    world = world_spec([HOPPER], 2)
    assert world.forces == 2  # x and z
    assert world_spec([hopper(bodies=("torso", "foot"))], 2).forces == 4
    assert world_spec([hopper(axes="x")], 2).forces == 1


@pytest.mark.parametrize(
    ("port", "law", "at"),
    [
        ({"axes": "xy"}, "along y it does nothing to 'torso', which moves along xz", "axes"),
        ({"bodies": ["torsi"]}, "'torsi' is not; did you mean 'torso'", "bodies[0]"),
        ({"bodies": ["world"]}, "'world' is not", "bodies[0]"),
        ({"bodies": []}, "bodies must say where forces act", "bodies"),
    ],
)
def test_a_port_that_cannot_be_is_refused_where_it_stands(
    port: dict[str, Any], law: str, at: str
) -> None:
    with pytest.raises(SpecError, match=law) as caught:
        world_spec([hopper(**{k: tuple(v) if k == "bodies" else v for k, v in port.items()})], 1)
    assert caught.value.at == f"$.tasks[0].port.{at}"


def test_a_task_that_cannot_be_pushed_has_no_port() -> None:
    task = TaskSpec(name="pole", env="CartPole-v1", port=PortSpec(limit=1.0, best=0.0))
    with pytest.raises(SpecError, match="CartPole-v1 is none") as caught:
        world_spec([task], 1)
    assert caught.value.at == "$.tasks[0].port"
    with pytest.raises(SpecError, match="engine is gymnasium"):
        world_spec([replace(HOPPER, engine="gymnasium")], 1)


@pytest.mark.parametrize("port", [{"axes": "zx"}, {"limit": float("inf")}, {"bodies": ("a", "a")}])
def test_a_port_says_what_is_wrong_with_it(port: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        hopper(**port)


@pytest.mark.parametrize("env", ["HumanoidStandup-v5", "Ant-v4"])
def test_a_robot_that_is_not_ours_to_step_has_no_port(env: str) -> None:
    task = TaskSpec(name="a", env=env, port=PortSpec(bodies=("torso",), limit=1.0, best=0.0))
    with pytest.raises(SpecError, match=f"{env} is none") as caught:
        world_spec([task], 1)
    assert caught.value.at == "$.tasks[0].port"


def test_axes_are_those_along_which_a_body_moves_in_some_pose() -> None:
    """The pole stands upright at first: only when it leans does it move up and down."""
    pole = TaskSpec(name="a", env="InvertedPendulum-v5")
    for bodies, size in ((("pole",), 2), (("cart",), 1)):
        port = PortSpec(bodies=bodies, limit=1.0, best=1.0)
        assert world_spec([replace(pole, port=port)], 1).forces == size


def test_weights_are_of_the_robot_as_it_is_before_it_varies() -> None:
    task = replace(hopper(limit=0.2, unit="weight"), vary={"mass": (0.5, 1.5)})
    for seed in range(3):
        with closing(open_world(task, 2, seed, {})) as world:
            assert world.port is not None
            assert world.port.limit == pytest.approx(0.2 * WEIGHT, rel=0.01)


def test_tasks_of_a_trial_share_the_size_of_what_disturbs_them() -> None:
    with pytest.raises(SpecError, match="must share their size of a disturbance"):
        world_spec([HOPPER, TaskSpec(name="b", env="Hopper-v5")], 1)


def test_a_task_without_a_port_is_the_trial_that_it_was() -> None:
    bare = TaskSpec(name="a", env="Hopper-v5")
    assert fingerprint(bare) == "80612d24c062cae2"  # as of before there were ports
    assert fingerprint(HOPPER) != fingerprint(bare)


def test_a_force_moves_a_body_as_newton_says_and_is_gone_after_a_step() -> None:
    with closing(open_world(hopper(), 2, 0, {})) as world:
        envs: Any = world.envs
        envs.reset(seed=0)
        assert world.port is not None
        idle_EA, model = np.zeros((2, 3)), envs.unwrapped.models[0]
        before = [data.qvel.copy() for data in envs.unwrapped.datas]
        world.port.push(np.array([[0.0, 0.0], [30.0, 0.0]]))
        envs.step(idle_EA)
        seconds, mass = 4 * model.opt.timestep, model.body_mass.sum()
        gained = [data.qvel - was for data, was in zip(envs.unwrapped.datas, before, strict=True)]
        # Joints take part of it: the torso gains more than the whole robot would.
        assert gained[1][0] - gained[0][0] > 30.0 * seconds / mass
        assert all(not data.xfrc_applied.any() for data in envs.unwrapped.datas)


def test_weights_are_of_the_whole_robot() -> None:
    with closing(open_world(hopper(limit=0.2, unit="weight"), 1, 0, {})) as world:
        assert world.port is not None
        assert world.port.limit == pytest.approx(0.2 * WEIGHT, rel=0.01)


def test_the_frame_of_a_body_turns_with_it() -> None:
    with closing(open_world(hopper(frame="body"), 1, 0, {})) as world:
        envs: Any = world.envs.unwrapped
        envs.reset(seed=0)
        assert world.port is not None
        data = envs.datas[0]
        data.qpos[2] = np.pi / 2  # pitch: the torso lies on its front or its back
        world.port.push(np.array([[10.0, 0.0]]))
        force_3 = data.xfrc_applied[1, :3]
        assert np.abs(force_3[:2]).max() < 1e-9
        assert np.abs(force_3[2]) == pytest.approx(10.0)


def test_an_exam_reads_what_a_disturber_does() -> None:
    strong, weak = (examined(Leans([x, 0.0])) for x in (30.0, 1e-9))
    told = summary(strong.strain)
    assert [s.steps for s in strong.strain] == [20, 20, 20]
    assert told["force"] == pytest.approx(20 * 30)
    assert told["energy"] == pytest.approx(20 * 900)
    assert not np.allclose(strong.returns_EO, weak.returns_EO)
    assert examined(Idle()).returns_EO == pytest.approx(weak.returns_EO, rel=1e-6)
    assert summary(examined(Idle()).strain)["force"] == 0


def test_a_cost_is_what_lacks_to_the_best_and_a_fall_has_its_own() -> None:
    task = hopper(best=3.0, limit=100.0)
    fallen = examined(Leans([90.0, 0.0]), task, horizon=400)
    for strain, (earned,) in zip(fallen.strain, fallen.returns_EO.tolist(), strict=True):
        assert strain.fell
        assert strain.steps < 100
        lacked = 3.0 * strain.steps - earned  # less where a step earned above 3
        assert lacked <= strain.cost - 300.0 <= lacked + 10
    cheap = examined(Leans([90.0, 0.0]), hopper(best=3.0, limit=100.0, fall=0.0), horizon=400)
    costs = ([strain.cost for strain in seen.strain] for seen in (fallen, cheap))
    assert np.subtract(*costs) == pytest.approx(300.0)
    assert shortfall(np.array([2.0, 4.0]), 3.0).tolist() == [1.0, 0.0]


def test_who_pushes_harder_than_the_port_allows_fails_its_trial() -> None:
    with pytest.raises(TrialFailed, match="a force must be at most 50, but is 60 at step 1"):
        examined(Leans([60.0, 0.0]))
    with pytest.raises(TrialFailed, match="at most 50"):
        examined(Leans([float("nan"), 0.0]))
    with pytest.raises(TrialFailed, match="'a' has none"):
        examined(Leans([1.0, 0.0]), TaskSpec(name="a", env="Hopper-v5"))


def test_forces_do_not_reach_other_episodes_nor_the_next_exam() -> None:
    first = examined(Idle())
    examined(Leans([40.0, 10.0]))
    assert np.array_equal(examined(Idle()).returns_EO, first.returns_EO)


def test_a_port_of_a_single_environment_needs_no_forces() -> None:
    with closing(open_env(HOPPER)) as env:
        env.reset(seed=0)
        assert env.step(env.action_space.sample())
