"""Opening tasks."""

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from rigorl.errors import SpecError, TrialFailed
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_env, open_envs, open_world, try_out, world_spec
from rigorl.tasks.exam import Exam, examine
from rigorl.tasks.world import Tally, World

CARTPOLE = TaskSpec(name="cartpole", env="CartPole-v1")
PENDULUM = TaskSpec(name="pendulum", env="Pendulum-v1")


class Toy(gym.Env[NDArray[np.float32], int]):
    """Its first reward is nan, or an observation of its first step infinite."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space: gym.Space[Any] = gym.spaces.Discrete(2)

    def __init__(self, breaks: str) -> None:
        self.breaks = breaks

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.full(2, np.nan if self.breaks == "reset" else 0, np.float32), {}

    def step(self, action: int) -> Any:
        obs = np.zeros(2, np.float32)
        if self.breaks != "reward":
            obs[1] = np.inf
        return (
            obs,
            np.nan if self.breaks == "reward" else 1.0,
            self.breaks == "final",
            False,
            {},
        )


def toy(**kwargs: Any) -> Toy:
    return Toy(**kwargs)


gym.register("rigorl-test/Toy-v0", entry_point=toy)
TOY = "rigorl-test/Toy-v0"


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


@pytest.mark.parametrize("what", ["reward", "observation", "final"])
def test_nonsense_ends_the_episode_and_is_not_believed(what: str) -> None:
    task = TaskSpec(name="toy", env=TOY, kwargs={"breaks": what}, diverged=1.0)
    tally = Tally()
    envs = open_envs(task, 3, seed=0, tally=tally)
    envs.reset()
    _, rewards, terminated, truncated, info = envs.step(np.zeros(3, np.int64))
    assert rewards.tolist() == [0, 0, 0]
    assert truncated.all()
    assert not terminated.any()
    np.testing.assert_array_equal(np.stack(info["final_obs"]), np.zeros((3, 2)))
    assert (tally.episodes, tally.diverged) == (3, 3)


def test_a_trial_fails_when_too_many_episodes_diverge() -> None:
    task = TaskSpec(name="toy", env=TOY, kwargs={"breaks": "reward"}, diverged=0.04)
    envs = open_envs(task, 3, seed=0)
    envs.reset()
    envs.step(np.zeros(3, np.int64))  # three, where four of a hundred are allowed
    with pytest.raises(TrialFailed, match=r"at most 4 % .* but 6 of 6 did on task 'toy'"):
        envs.step(np.zeros(3, np.int64))
    with pytest.raises(TrialFailed, match=r"at most 0 % .* but 1 of 500 did"):
        Tally().add(TaskSpec(name="a", env="b", diverged=0.0), 500, 1)


@pytest.mark.parametrize("engine", ["auto", "gymnasium"])
def test_a_simulation_that_comes_apart_ends_its_episode(engine: Any) -> None:
    task = TaskSpec(name="hop", env="Hopper-v5", engine=engine, diverged=1.0)
    tally = Tally()
    envs = open_envs(task, 2, seed=0, tally=tally)
    first = envs.reset()[0]
    bare: Any = envs.unwrapped
    if engine == "auto":
        bare._simulations._datas[1].qvel[0] = 1e11
    else:
        bare.envs[1].unwrapped.data.qvel[0] = 1e11
    _, rewards, terminated, truncated, info = envs.step(np.zeros((2, 3), np.float32))
    assert truncated.tolist() == [False, True]
    assert not terminated.any()
    assert rewards[0] != 0 == rewards[1]
    np.testing.assert_array_equal(info["final_obs"][1], first[1])
    assert (tally.episodes, tally.diverged) == (1, 1)
    envs.close()


def test_a_diverged_policy_is_named() -> None:
    envs = open_envs(PENDULUM, 3, seed=0)
    envs.reset()
    action = np.zeros((3, 1), np.float32)
    action[2] = np.nan
    with pytest.raises(
        TrialFailed, match=r"action must be finite, but is \[nan\] in environment 2"
    ):
        envs.step(action)


@pytest.mark.parametrize(
    ("task", "at", "words"),
    [
        ({"env": "Hopper-v5", "physics": {"mass": 1e-30}}, "$.tasks[1].physics", "no inertia"),
        ({"env": "Hopper-v5", "physics": {"damping": 1e30}}, "$.tasks[1].physics", "not finite"),
        (
            {"env": TOY, "kwargs": {"breaks": "reward"}},
            "$.tasks[1].env",
            "first step .* not finite",
        ),
        (
            {"env": TOY, "kwargs": {"breaks": "reset"}},
            "$.tasks[1].env",
            "first reset .* not finite",
        ),
        (
            {"env": "rigorl-test/Grows-v0"},
            "$.tasks[1].env",
            r"after a reset says Box.*shape \(3,\)",
        ),
        (
            {"env": "Hopper-v5", "vary": {"mass": [1e-30, 1.0]}, "engine": "gymnasium"},
            "$.tasks[1].vary",
            "no inertia",
        ),
    ],
)
def test_what_cannot_be_played_is_refused(task: dict[str, Any], at: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        try_out([CARTPOLE, msgspec.convert({"name": "task", **task}, TaskSpec)])
    assert caught.value.at == at


class Grows(Toy):
    """An environment whose space is another once it is played."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.observation_space = gym.spaces.Box(-1, 1, (3,))
        return np.zeros(3, np.float32), {}


gym.register("rigorl-test/Grows-v0", entry_point=lambda: Grows("never"))


class Odd(gym.Env[Any, Any]):
    """Says `diverged` itself, has data of its own, and shows what it will write to again."""

    action_space: gym.Space[Any] = gym.spaces.Discrete(2)

    def __init__(self, breaks_at: int, kind: str = "array") -> None:
        self.breaks_at, self.kind, self.data = breaks_at, kind, [1, 2]
        self.shown = np.zeros(2)
        box = gym.spaces.Box(-1, 1, (2,))
        self.observation_space: gym.Space[Any] = (
            box if kind == "array" else gym.spaces.Dict(a=gym.spaces.Tuple([box]))
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.lived = 0
        self.shown[:] = 0
        return self._obs(), {"diverged": False}

    def step(self, action: Any) -> Any:
        self.lived += 1
        self.shown[:] = np.nan if self.lived == self.breaks_at else self.lived
        return self._obs(), 1.0, False, self.lived == 6, {"diverged": 0.3}

    def _obs(self) -> Any:
        return self.shown if self.kind == "array" else {"a": (self.shown,)}


gym.register("rigorl-test/Odd-v0", entry_point=Odd)


def odd(breaks_at: int, kind: str = "array") -> TaskSpec:
    kwargs = {"breaks_at": breaks_at, "kind": kind}
    return TaskSpec(name="odd", env="rigorl-test/Odd-v0", kwargs=kwargs, diverged=1.0)


@pytest.mark.parametrize("kind", ["array", "dict"])
def test_an_environment_may_write_to_what_it_showed(kind: str) -> None:
    env = open_env(odd(4, kind))
    shown = [env.reset()[0]] + [env.step(0)[0] for _ in range(4)]
    rows = [obs["a"][0] if kind == "dict" else obs for obs in shown]
    assert [row[0] for row in rows] == [0, 1, 2, 3, 3]


def test_an_environments_own_words_are_not_taken_for_ours() -> None:
    try_out([odd(99), odd(99, "dict")])
    tally = Tally()
    envs = open_envs(odd(99), 2, seed=0, tally=tally)
    envs.reset()
    steps = [envs.step(np.zeros(2, np.int64)) for _ in range(12)]
    assert (tally.episodes, tally.diverged) == (4, 0)
    np.testing.assert_array_equal(np.stack(steps[5][-1]["final_obs"]), np.full((2, 2), 6))
    assert examine(Exam(odd(99), Still(), seeds=(0,))).diverged == 0
    broken = examine(Exam(odd(4), Still(), seeds=(0,)))
    assert (broken.returns_EO.tolist(), broken.diverged) == ([[3.0]], 1)


def test_a_share_is_reached_before_it_is_passed() -> None:
    task = TaskSpec(name="a", env="b", diverged=0.29)
    Tally().add(task, 100, 29)
    with pytest.raises(TrialFailed, match=r"at most 29 % .* but 30 of 100"):
        Tally().add(task, 100, 30)


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
