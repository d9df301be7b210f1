"""Opening tasks."""

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from rigorl.errors import SpecError
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_env, open_envs, open_world, world_spec
from rigorl.tasks.world import World

CARTPOLE = TaskSpec(name="cartpole", env="CartPole-v1")
PENDULUM = TaskSpec(name="pendulum", env="Pendulum-v1")


class Still:
    """Do nothing."""

    def __call__(self, obs: NDArray[Any]) -> NDArray[Any]:
        return np.zeros(len(obs), np.int64)

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def refusal(task: TaskSpec) -> SpecError:
    with pytest.raises(SpecError) as caught:
        open_env(task)
    return caught.value


# --- opening ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "kwargs", "at", "words"),
    [
        ("CartPole", {}, "$.env", "did you mean 'CartPole-v1'"),
        ("halfcheetah-v5", {}, "$.env", "did you mean 'HalfCheetah-v5'"),
        ("No/Such-Thing-v0", {}, "$.env", "write 'module:id'"),
        ("nomodule:CartPole-v1", {}, "$.env", "No module named 'nomodule'"),
        ("CartPole-v1", {"sutton_reward": 1}, "$.kwargs.sutton_reward", "sutton_barto_reward"),
        ("HalfCheetah-v5", {"frame_skp": 1}, "$.kwargs.frame_skp", "did you mean 'frame_skip'"),
        ("HalfCheetah-v5", {"xml_file": "/none.xml"}, "$.kwargs", "/none.xml"),
    ],
)
def test_impossible_tasks_are_refused(
    env: str, kwargs: dict[str, Any], at: str, words: str
) -> None:
    error = refusal(TaskSpec(name="task", env=env, kwargs=kwargs))
    assert error.at == at
    assert words in error.message


def test_a_missing_package_is_named() -> None:
    gym.register("rigorl-test/Far-v0", entry_point="no_such_package.envs:Far")
    error = refusal(TaskSpec(name="task", env="rigorl-test/Far-v0"))
    assert error.at == "$.env"
    assert "no_such_package" in error.message


def trajectory(seed: int, num_envs: int = 3) -> NDArray[Any]:
    envs = open_envs(PENDULUM, num_envs, seed)
    obs = [envs.reset()[0]]
    obs += [envs.step(envs.action_space.sample())[0] for _ in range(5)]
    return np.stack(obs)


def test_the_same_seed_opens_the_same_environments() -> None:
    np.testing.assert_array_equal(trajectory(7), trajectory(7))
    assert (trajectory(7) != trajectory(8)).any(axis=2).all()
    first_7, first_8 = trajectory(7)[0], trajectory(8)[0]
    assert not {*map(tuple, first_7)} & {*map(tuple, first_8)}  # neighbours share no stream
    np.testing.assert_array_equal(trajectory(7, num_envs=5)[0, :3], first_7)


def test_a_world_is_described_and_opened() -> None:
    longer = TaskSpec(name="longer", env="CartPole-v1", physics={"length": 1.0})
    spec = world_spec([CARTPOLE, longer], 4)
    assert spec.tasks == (CARTPOLE, longer)
    assert spec.num_envs == 4
    assert spec.observation.shape == (4,)
    assert spec.action == gym.spaces.Discrete(2)
    world = open_world(longer, 4, seed=0, given={"before": Still()})
    assert isinstance(world, World)
    assert world.envs.num_envs == 4
    assert world.dataset is None
    sync: Any = world.envs.unwrapped
    assert list(world.given) == ["before"]
    assert sync.get_attr("polemass_length") == (0.1,) * 4
    world.close()


def test_a_world_can_be_pushed_for_one_step() -> None:
    hopper = TaskSpec(name="hopper", env="Hopper-v5")
    ways = []
    for newtons in (0.0, 400.0):
        with closing(open_world(hopper, 2, seed=0, given={}, threads=2)) as world:
            world.envs.reset()
            robots: Any = world.envs.unwrapped
            wrench_EB6 = np.zeros((2, 5, 6))  # the world, torso, thigh, leg, foot
            wrench_EB6[1, 1, 0] = newtons
            robots.push(wrench_EB6)
            for _ in range(2):
                _, _, _, _, info = world.envs.step(np.zeros((2, 3), np.float32))
            ways.append(info["x_position"])
    assert ways[0][0] == ways[1][0]
    assert ways[1][1] > ways[0][1] + 0.005


def test_tasks_of_a_trial_share_their_spaces() -> None:
    with pytest.raises(SpecError, match=r"'cartpole' has Box.* and 'pendulum' has Box") as caught:
        world_spec([CARTPOLE, PENDULUM], 1)
    assert caught.value.at == "$.tasks[1]"
    wrong = TaskSpec(name="wrong", env="CartPole-v1", physics={"mass": 1.0})
    with pytest.raises(SpecError) as caught:
        world_spec([CARTPOLE, wrong], 1)
    assert caught.value.at == "$.tasks[1].physics.mass"


# --- datasets --------------------------------------------------------------------------


def test_a_dataset_is_found_and_a_missing_one_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minari = pytest.importorskip("minari")
    buffers = pytest.importorskip("minari.data_collector")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    wrong = TaskSpec(name="task", env="CartPole-v1", dataset="cart/smal-v0")
    with pytest.raises(SpecError, match=r"`minari download cart/smal-v0`") as caught:
        world_spec([CARTPOLE, wrong], 1)
    assert caught.value.at == "$.tasks[1].dataset"
    assert not list(tmp_path.iterdir())

    episode = buffers.EpisodeBuffer(
        observations=np.zeros((4, 4), np.float32),
        actions=np.zeros(3, np.int64),
        rewards=[1.0] * 3,
        terminations=[False, False, True],
        truncations=[False] * 3,
    )
    minari.create_dataset_from_buffers(
        dataset_id="cart/small-v0",
        buffer=[episode],
        env="CartPole-v1",
        eval_env="CartPole-v1",
        algorithm_name="none",
        author="none",
        author_email="none",
        code_permalink="none",
        description="none",
    )
    right = TaskSpec(name="task", env="CartPole-v1", dataset="cart/small-v0")
    world_spec([right], 1)
    world = open_world(right, 1, seed=0, given={})
    assert world.dataset.total_steps == 3
    with pytest.raises(SpecError, match=r"did you mean 'cart/small-v0'"):
        open_world(wrong, 1, seed=0, given={})


def test_minari_is_asked_for_only_where_a_task_has_a_dataset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    monkeypatch.delitem(sys.modules, "rigorl.tasks.dataset", raising=False)
    world_spec([CARTPOLE], 1)
    recorded = TaskSpec(name="task", env="CartPole-v1", dataset="cart/small-v0")
    with pytest.raises(SpecError, match="`pip install 'rigorl\\[offline\\]'`") as caught:
        world_spec([recorded], 1)
    assert caught.value.at == "$.tasks[0].dataset"
