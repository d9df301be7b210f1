"""EnvPool's environments as ours. What needs EnvPool itself is skipped where it is not."""

import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rigorl.errors import SpecError, TrialFailed
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_env, open_envs, world_spec
from rigorl.tasks.exam import CHUNK, Exam, examine
from rigorl.tasks.world import Tally


def pooled(env: str, **more: Any) -> TaskSpec:
    return TaskSpec(name="task", env=env, engine="envpool", **more)


CARTPOLE, CHEETAH = pooled("CartPole-v1"), pooled("HalfCheetah-v5")
CONTROL = pooled("CheetahRun-v1", kwargs={"max_episode_steps": 7})
VARIED = [CARTPOLE, CHEETAH, CONTROL, pooled("Pendulum-v1"), pooled("Pong-v5")]


@pytest.fixture
def envpool() -> Any:
    return pytest.importorskip("envpool")


class Dice:
    """Act at random, with randomness of its own."""

    def __init__(self, space: gym.Space[Any]) -> None:
        self.space = gym.vector.utils.batch_space(space, CHUNK)
        self.space.seed(0)

    def __call__(self, obs: NDArray[Any]) -> Any:
        assert len(obs) == CHUNK
        return self.space.sample()

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    monkeypatch.delitem(sys.modules, "rigorl.tasks.pool", raising=False)
    with pytest.raises(SpecError, match=r"`pip install 'rigorl\[envpool\]'`") as caught:
        world_spec([CARTPOLE], 1)
    assert caught.value.at == "$.tasks[0].engine"
    world_spec([TaskSpec(name="task", env="CartPole-v1", engine="gymnasium")], 1)


@pytest.mark.usefixtures("envpool")
@pytest.mark.parametrize(
    ("task", "at", "words"),
    [
        (pooled("CheetaRun-v1"), "$.env", "did you mean 'CheetahRun-v1'"),
        (pooled("No/Such"), "$.env", "use `engine: auto`"),
        (pooled("MiniGrid-Empty-5x5-v0"), "$.env", "numbers of one kind"),
        (pooled("Hopper-v5", physics={"gravity": 1.0}), "$.physics", "use `engine: auto`"),
        (pooled("Hopper-v5", vary={"mass": (1.0, 2.0)}), "$.vary", "use `engine: auto`"),
        (pooled("Hopper-v5", kwargs={"frame_skp": 1}), "$.kwargs.frame_skp", "'frame_skip'"),
        (pooled("Hopper-v5", kwargs={"num_envs": 2}), "$.kwargs.num_envs", "takes"),
        (pooled("Hopper-v5", kwargs={"batch_size": 2}), "$.kwargs.batch_size", "takes"),
        (pooled("Hopper-v5", kwargs={"frame_skip": "x"}), "$.kwargs", "correct them"),
    ],
)
def test_impossible_tasks_are_refused(task: TaskSpec, at: str, words: str) -> None:
    for open_it in (open_env, lambda task: open_envs(task, 2, seed=0)):
        with pytest.raises(SpecError) as caught:
            open_it(task)
        assert caught.value.at == at
        assert words in caught.value.message


@pytest.mark.usefixtures("envpool")
def test_spaces_are_gymnasium_s() -> None:
    spec = world_spec([CHEETAH], 3)
    theirs = gym.make("HalfCheetah-v5")
    assert spec.observation == theirs.observation_space
    assert spec.action.shape == theirs.action_space.shape
    assert world_spec([CARTPOLE], 3).action == gym.spaces.Discrete(2)
    flat = world_spec([CONTROL], 3).observation
    assert flat == gym.spaces.Box(-np.inf, np.inf, (17,), np.float64)
    assert world_spec([pooled("Pong-v5")], 3).observation.shape == (4, 84, 84)


def trajectory(task: TaskSpec, num_envs: int, seed: int = 7, steps: int = 12) -> list[Any]:
    """Return what the first environment sees and earns in *steps* steps at random."""
    envs = open_envs(task, num_envs, seed)
    envs.single_action_space.seed(0)
    seen = [envs.reset()[0][0]]
    for _ in range(steps):
        first = envs.single_action_space.sample()
        actions = np.stack([first] * num_envs)
        obs, rewards, *ends, _ = envs.step(actions)
        seen += [obs[0], rewards[0], *(end[0] for end in ends)]
    envs.close()
    return seen


@pytest.mark.usefixtures("envpool")
@pytest.mark.parametrize("task", VARIED, ids=lambda task: task.env)
def test_an_environment_has_a_stream_of_its_own(task: TaskSpec) -> None:
    few, again, many = trajectory(task, 2), trajectory(task, 2), trajectory(task, 5)
    for other in (again, many):
        for one, two in zip(few, other, strict=True):
            np.testing.assert_array_equal(one, two)
    if task.env != "Pong-v5":  # begins the same way
        assert not np.array_equal(few[0], trajectory(task, 2, seed=8)[0])


def left_alone_like(envs: Any) -> Any:
    """Return EnvPool's own pool of the same environments with the same seeds."""
    pool = envs.unwrapped.pool
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = type(pool)(pool.spec)
        assert alone.observation_space == pool.observation_space
    return alone


@pytest.mark.usefixtures("envpool")
@pytest.mark.parametrize("task", [CARTPOLE, CONTROL], ids=lambda task: task.env)
def test_an_episode_ends_and_begins_in_one_step(task: TaskSpec) -> None:
    """As in Gymnasium's SAME_STEP: the first episodes are those of a pool left alone."""
    envs = open_envs(task, 3, seed=1)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    alone = left_alone_like(envs)
    envs.reset()
    alone.reset()
    first, ended = np.full(3, fill_value=True), 0
    for _ in range(60):
        actions = envs.action_space.sample()
        obs, rewards, terminated, truncated, info = envs.step(actions)
        theirs, paid, *ends, _ = alone.step(actions)
        theirs = theirs if isinstance(theirs, np.ndarray) else np.hstack([*theirs.values()])
        over = terminated | truncated
        for i in np.flatnonzero(first):
            seen = info["final_obs"][i] if over[i] else obs[i]
            np.testing.assert_array_equal(seen, theirs[i])
            assert (rewards[i], terminated[i], truncated[i]) == (paid[i], ends[0][i], ends[1][i])
            assert not over[i] or not np.array_equal(seen, obs[i])
        assert over.any() == ("_final_obs" in info)
        if over.any():
            np.testing.assert_array_equal(info["_final_obs"], over)
            assert [final is not None for final in info["final_obs"]] == over.tolist()
        ended += int(over.sum())
        first &= ~over
    assert ended >= 3


@pytest.mark.usefixtures("envpool")
def test_steps_are_counted_anew_after_an_end() -> None:
    """EnvPool would spend the step after an end on the reset; here it is spent already."""
    envs = open_envs(CONTROL, 2, seed=0)
    envs.reset()
    elapsed = [envs.step(envs.action_space.sample())[4]["elapsed_step"][0] for _ in range(15)]
    assert elapsed == [1, 2, 3, 4, 5, 6, 7] * 2 + [1]


@pytest.mark.usefixtures("envpool")
def test_a_pool_is_watched_and_seeded_once() -> None:
    envs = open_envs(CHEETAH, 2, seed=0)
    envs.reset()
    with pytest.raises(TrialFailed, match="action must be finite"):
        envs.step(np.full((2, 6), np.nan))
    with pytest.raises(ValueError, match="seeded when it was opened"):
        envs.reset(seed=3)


@pytest.mark.usefixtures("envpool")
@pytest.mark.parametrize("task", VARIED[:-1], ids=lambda task: task.env)
def test_an_exam_taken_again_ends_the_same(task: TaskSpec) -> None:
    dice = Dice(open_env(task).action_space)
    many = examine(Exam(task, dice, seeds=(3, 4, 2**32 - 1), horizon=30)).returns_EO
    assert many.shape == (3, 1)
    assert len(set(many.ravel())) > 1
    again = examine(Exam(task, dice, (3, 4, 2**32 - 1), horizon=30)).returns_EO
    np.testing.assert_array_equal(many, again)
    fewer = examine(Exam(task, dice, (3, 4), horizon=30)).returns_EO
    np.testing.assert_array_equal(many[:2], fewer)


@pytest.mark.usefixtures("envpool")
def test_one_alone_is_as_new_after_reset() -> None:
    one, other = open_env(CHEETAH), open_env(CHEETAH)
    one.reset(seed=1)
    one.step(one.action_space.sample())
    np.testing.assert_array_equal(one.reset(seed=5)[0], other.reset(seed=5)[0])
    assert not np.array_equal(one.reset()[0], other.reset(seed=5)[0])


class Broken:
    """A real pool, but its second environment pays nonsense."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def step(self, actions: Any) -> Any:
        obs, reward_E, *rest = self._pool.step(actions)
        reward_E[1] = np.nan
        return obs, reward_E, *rest


@pytest.mark.usefixtures("envpool")
def test_what_is_not_finite_ends_the_episode() -> None:
    tally = Tally()
    envs = open_envs(pooled("CartPole-v1", diverged=1.0), 2, seed=0, tally=tally)
    pool: Any = envs.unwrapped
    first = envs.reset()[0]
    pool.pool = Broken(pool.pool)
    obs, rewards, terminated, truncated, info = envs.step(np.zeros(2, np.int64))
    assert truncated.tolist() == [False, True]
    assert not terminated.any()
    assert rewards.tolist() == [1, 0]
    np.testing.assert_array_equal(info["final_obs"][1], first[1])
    assert not np.array_equal(obs[1], first[1])
    assert (tally.episodes, tally.diverged) == (1, 1)
