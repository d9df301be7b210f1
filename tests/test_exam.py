"""What a policy is worth."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from rigorl.errors import TrialFailed
from rigorl.spec import TaskSpec
from rigorl.tasks import exam as exam_room
from rigorl.tasks.envs import open_env
from rigorl.tasks.exam import CHUNK, Exam, examine

CARTPOLE = TaskSpec(name="cartpole", env="CartPole-v1")
CHEETAH = TaskSpec(name="cheetah", env="HalfCheetah-v5")


class Lean:
    """Push the cart to where the pole leans."""

    def __call__(self, obs: NDArray[Any]) -> NDArray[Any]:
        assert obs.shape == (CHUNK, 4)
        return (obs[:, 2] + 0.3 * obs[:, 3] > 0).astype(np.int64)

    def save(self, folder: Path) -> None:
        raise NotImplementedError


class Dice:
    """Act at random, with randomness of its own."""

    def __init__(self, sample: Callable[[np.random.Generator], NDArray[Any]]) -> None:
        self.rng, self.sample = np.random.default_rng(0), sample

    def __call__(self, obs: NDArray[Any]) -> NDArray[Any]:
        return self.sample(self.rng)

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def coins(rng: np.random.Generator) -> NDArray[Any]:
    return rng.integers(2, size=CHUNK)


def hops(rng: np.random.Generator) -> NDArray[Any]:
    return noise(rng)[:, :3]


def noise(rng: np.random.Generator) -> NDArray[Any]:
    return rng.uniform(-1, 1, size=(CHUNK, 6)).astype(np.float32)


class Duel(gym.Env[NDArray[np.float32], int]):
    """Five steps for two objectives; the third may break."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space: gym.Space[Any] = gym.spaces.Discrete(2)

    def __init__(self, worth: float = -0.5) -> None:
        self.worth, self.steps = worth, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> Any:
        self.steps += 1
        reward = np.array([1.0, self.worth if self.steps == 3 else -0.5])
        return np.zeros(2, np.float32), reward, self.steps == 5, False, {}


def duel(**kwargs: Any) -> Duel:
    return Duel(**kwargs)


gym.register("rigorl-test/Duel-v0", entry_point=duel)
DUEL = TaskSpec(name="duel", env="rigorl-test/Duel-v0")


def test_an_exam_taken_again_ends_the_same() -> None:
    for task, sample in ((CARTPOLE, coins), (CHEETAH, noise)):
        exam = Exam(task, Dice(sample), seeds=(3, 4, 5), horizon=30)
        first = examine(exam).returns_EO
        assert first.shape == (3, 1)
        assert len(set(first.ravel())) > 1
        np.testing.assert_array_equal(first, examine(exam).returns_EO)
        again = pickle.loads(pickle.dumps(exam))  # noqa: S301
        np.testing.assert_array_equal(first, examine(again).returns_EO)


@pytest.mark.parametrize("policy", [Lean(), Dice(coins)])
def test_episodes_do_not_know_each_other(policy: Any) -> None:
    many, first, last = (
        examine(Exam(CARTPOLE, policy, tuple(seeds), horizon=60)).returns_EO
        for seeds in (range(20), range(3), range(16, 20))
    )
    np.testing.assert_array_equal(many[:3], first)
    np.testing.assert_array_equal(many[16:], last)


def test_returns_are_those_of_a_plain_loop() -> None:
    env, total = gym.make("CartPole-v1"), []
    for seed in (11, 12):
        obs, _ = env.reset(seed=seed)
        total.append(0.0)
        over = False
        while not over:
            rows = np.repeat(np.asarray(obs)[None], CHUNK, axis=0)
            obs, reward, terminated, truncated, _ = env.step(Lean()(rows)[0])
            total[-1] += float(reward)
            over = terminated or truncated
    returns_EO = examine(Exam(CARTPOLE, Lean(), (11, 12))).returns_EO
    np.testing.assert_array_equal(returns_EO[:, 0], total)


def test_horizon_caps_an_episode() -> None:
    short = examine(Exam(CARTPOLE, Lean(), seeds=(0,), horizon=7))
    assert short.returns_EO.tolist() == [[7.0]]


def test_objectives_are_kept_apart() -> None:
    returns_EO = examine(Exam(DUEL, Dice(coins), seeds=(0, 1))).returns_EO
    assert returns_EO.tolist() == [[5.0, -2.5]] * 2


def test_an_episode_that_diverges_ends_with_what_it_had_earned() -> None:
    task = TaskSpec(name="duel", env=DUEL.env, kwargs={"worth": np.nan})
    result = examine(Exam(task, Dice(coins), seeds=(0, 1)))
    assert result.returns_EO.tolist() == [[2.0, -1.0]] * 2
    assert result.diverged == 2


def test_a_policy_that_has_diverged_is_not_examined() -> None:
    def nothing(rng: np.random.Generator) -> NDArray[Any]:
        return noise(rng) * np.nan

    with pytest.raises(TrialFailed, match="not at step 1 of an exam on task 'cheetah'"):
        examine(Exam(CHEETAH, Dice(nothing), seeds=(0,)))


@pytest.mark.parametrize("engine", ["auto", "gymnasium"])
def test_what_a_task_says_reaches_its_exam(engine: Any) -> None:
    # Infinity has no form in JSON.
    kwargs = {"healthy_z_range": [1.2, np.inf], "healthy_angle_range": [-np.inf, np.inf]}
    task = TaskSpec(name="hop", env="Hopper-v5", engine=engine, kwargs=kwargs)
    plain = TaskSpec(name="hop", env="Hopper-v5", engine=engine)
    high, low = (examine(Exam(one, Dice(hops), (0, 1))).returns_EO for one in (task, plain))
    assert (high < low).all()


@pytest.mark.parametrize(("env", "sample"), [("HalfCheetah-v5", noise), ("Hopper-v5", hops)])
def test_our_simulations_give_the_scores_of_gymnasiums(env: str, sample: Any) -> None:
    seeds, scores = tuple(range(18)), []
    for engine, threads in (("auto", 1), ("auto", 2), ("gymnasium", 1)):
        task = TaskSpec(name="task", env=env, engine=engine, vary={"friction": (0.5, 1.5)})
        horizon = 25 if env == "HalfCheetah-v5" else None  # which never ends by itself
        exam = Exam(task, Dice(sample), seeds, horizon, threads)
        scores.append(examine(exam).returns_EO)
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_allclose(scores[0], scores[2], atol=1e-9)
    assert len(set(scores[0].ravel())) == len(seeds)


@pytest.mark.parametrize(
    "env",
    [
        "Acrobot-v1",
        "Ant-v5",
        "CartPole-v1",
        "HalfCheetah-v5",
        "Hopper-v5",
        "Humanoid-v5",
        "MountainCarContinuous-v0",
        "Pendulum-v1",
        "Pusher-v5",
        "Reacher-v5",
    ],
)
def test_a_kept_environment_is_as_new_after_reset(env: str) -> None:
    task = TaskSpec(name="task", env=env)
    used, new = open_env(task), open_env(task)
    used.action_space.seed(0)
    actions = [used.action_space.sample() for _ in range(8)]  # too few to fall over
    used.reset(seed=5)
    for action in actions[:6]:
        used.step(action)
    for seed in (6, 7):
        np.testing.assert_array_equal(used.reset(seed=seed)[0], new.reset(seed=seed)[0])
        for action in actions:
            one, other = used.step(action), new.step(action)
            np.testing.assert_array_equal(one[0], other[0])
            assert one[1:4] == other[1:4]
        new = open_env(task)


def test_only_what_is_known_to_be_as_new_is_kept() -> None:
    exam_room._kept.cache_clear()
    examine(Exam(DUEL, Dice(coins), seeds=(0,)))
    assert exam_room._kept.cache_info().currsize == 0
    examine(Exam(CARTPOLE, Lean(), seeds=(0,), horizon=1))
    assert exam_room._kept.cache_info().currsize == 1
