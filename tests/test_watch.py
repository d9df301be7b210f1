"""What is believed of an environment, and what is refused before it is played."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from rigorl.errors import SpecError, TrialFailed
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_env, open_envs, try_out
from rigorl.tasks.exam import Exam, examine
from rigorl.tasks.world import Tally

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
        bare._simulations.datas[1].qvel[0] = 1e11
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
        ({"env": "rigorl-test/Flat-v0"}, "$.tasks[1].env", r"shows an array of shape \(2,\)"),
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


class Flat(Toy):
    """An environment that shows something else than it says."""

    observation_space: gym.Space[Any] = gym.spaces.Dict(a=Toy.observation_space)


gym.register("rigorl-test/Grows-v0", entry_point=lambda: Grows("never"))
gym.register("rigorl-test/Flat-v0", entry_point=lambda: Flat("never"))


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
