"""The world of linear systems: by hand, beside one environment, and beside what is exact."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from helpers.learning import learn
from helpers.robots import check_same_step
from rigorl.agents import ppo
from rigorl.analysis.lq import h2_cost, l2_gain, lqr, random_system, system, worst_ratio
from rigorl.errors import SpecError, TrialFailed
from rigorl.ports import PortSpec
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_batch, open_env, open_envs, open_world, try_out, world_spec
from rigorl.tasks.exam import Exam, OneByOne, examine
from rigorl.tasks.systems import AHEAD, Systems
from rigorl.tasks.world import DIVERGED, Tally

SAME_STEP, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
SCALAR = {"A": 1.1, "B": 1, "D": 1, "Q": 1, "R": 1}
PLANE = {
    "A": [[1, 0.1], [0, 1]],
    "B": [[0], [0.5]],
    "D": [[1, 0], [0, 2]],
    "Q": [[2, 0.5], [0.5, 1]],
    "R": 0.1,
}
MATRICES = random_system(np.random.default_rng(0), 3, 2, 2)._asdict()
DRAWN = {name: matrix.tolist() for name, matrix in MATRICES.items()}


def task(matrices: dict[str, Any] = PLANE, port: PortSpec | None = None, **kwargs: Any) -> TaskSpec:
    kwargs = {**matrices, **kwargs}
    return TaskSpec(name="task", env="rigorl/LinearQuadratic-v0", kwargs=kwargs, port=port)


def batch(spec: TaskSpec, count: int = 3, mode: AutoresetMode = SAME_STEP) -> Systems:
    envs = open_batch(spec, count, 1, mode)
    assert isinstance(envs, Systems)
    return envs


def actions(steps: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(steps, *shape)).astype(np.float32)


class Linear:
    """u = -K x, and pushes kappa x and noise of its own."""

    def __init__(self, K: Any, kappa: Any = None, sigma: float = 0.0) -> None:
        self.K, self.kappa, self.sigma = np.atleast_2d(K), kappa, sigma
        self.luck = np.random.default_rng(0)

    def __call__(self, obs: NDArray[Any]) -> NDArray[Any]:
        return -obs @ self.K.T

    def save(self, folder: Path) -> None:
        raise NotImplementedError


class Pushing(Linear):
    def push(self, obs: NDArray[Any]) -> NDArray[Any]:
        force_EF: NDArray[Any] = obs @ np.atleast_2d(self.kappa).T
        return force_EF + self.sigma * self.luck.normal(size=force_EF.shape)


def test_a_step_by_hand() -> None:
    env = open_env(task(start=1.0))
    x, info = env.reset(seed=0)
    assert info == {}
    env.unwrapped.push([3, 4])  # type: ignore[attr-defined]
    after, reward, terminated, truncated, _ = env.step(np.array([2], np.float32))
    np.testing.assert_allclose(after, [x[0] + 0.1 * x[1] + 3, x[1] + 1 + 8])
    cost = 2 * x[0] ** 2 + x[0] * x[1] + x[1] ** 2 + 0.1 * 4
    assert reward == pytest.approx(-cost, rel=1e-12)
    assert not terminated
    assert not truncated
    later, *_ = env.step(np.array([0], np.float32))  # the push is over
    np.testing.assert_allclose(later, [after[0] + 0.1 * after[1], after[1]])


@pytest.mark.parametrize("matrices", [SCALAR, PLANE, DRAWN])
def test_a_batch_is_its_environments_to_the_bit(matrices: dict[str, Any]) -> None:
    spec = task(matrices, start=1.0, noise=0.3, steps=7, bound=2.0)
    mine = batch(spec)
    peer = SyncVectorEnv([partial(open_env, spec)] * 3, autoreset_mode=SAME_STEP)
    check_same_step(mine.reset(seed=7), peer.reset(seed=7))
    ended = 0
    for action_EM in actions(42, *mine.action_space.shape):  # type: ignore[misc]
        expected = peer.step(action_EM)
        check_same_step(mine.step(action_EM), expected)
        ended += np.count_nonzero(expected[3])
    assert ended == 3 * 42 / 7
    check_same_step(mine.reset(), peer.reset())
    check_same_step(mine.reset(seed=[5, 6, 7]), peer.reset(seed=[5, 6, 7]))  # type: ignore[arg-type]


def test_neighbours_change_no_bit() -> None:
    spec = task(DRAWN, start=1.0, noise=0.3, steps=5)
    alone, many = open_envs(spec, 1, 0), open_envs(spec, 9, 0)
    np.testing.assert_array_equal(alone.reset()[0], many.reset()[0][:1])
    for action_EM in actions(30, 9, 2):
        one, all_ = alone.step(action_EM[:1]), many.step(action_EM)
        for mine, its in zip(one[:4], all_[:4], strict=True):
            np.testing.assert_array_equal(mine, its[:1])
    assert len(set(all_[0][:, 0])) == 9


def test_noise_goes_on_beyond_what_is_drawn_at_once() -> None:
    envs = batch(task({**SCALAR, "A": 0, "B": 0}, noise=0.5, steps=3 * AHEAD))
    envs.reset(seed=3)
    seen = np.array([envs.step(np.zeros((3, 1)))[0][:, 0] for _ in range(3 * AHEAD - 1)])
    assert len(np.unique(seen)) == seen.size
    assert seen.std() == pytest.approx(0.5, rel=0.05)


def test_how_long_one_rests_changes_no_luck() -> None:
    spec = task(SCALAR, noise=0.5, start=1.0, steps=2)
    lives = []
    for rest in (0, AHEAD):
        envs = batch(spec, 2, DISABLED)
        envs.reset(seed=0)
        for _ in range(2 + rest):
            envs.step(np.zeros((2, 1)))
        lives.append([envs.reset()[0], envs.step(np.zeros((2, 1)))[0]])
    np.testing.assert_array_equal(*lives)


def test_a_push_lasts_for_a_step_and_a_reset_forgets_it() -> None:
    envs = batch(task(start=1.0), 2)
    still = np.zeros((2, 1))
    x_EN, _ = envs.reset(seed=0)
    force_EF = np.array([[1.0, 0], [0, -1]])
    envs.push(9 * force_EF)
    envs.push(force_EF)
    force_EF[:] = np.nan  # it is the caller's
    free_EN = x_EN @ np.array(PLANE["A"]).T
    pushed_EN = envs.step(still)[0]
    np.testing.assert_allclose(pushed_EN - free_EN, [[1, 0], [0, -2]], atol=1e-12)
    np.testing.assert_allclose(envs.step(still)[0], pushed_EN @ np.array(PLANE["A"]).T)
    envs.push(np.ones((2, 2)))
    x_EN, _ = envs.reset(seed=0)
    np.testing.assert_allclose(envs.step(still)[0], x_EN @ np.array(PLANE["A"]).T)
    assert envs.forces == 2
    with pytest.raises(ValueError, match=r"force_EF must be \(2, 2\), but is \(2,\)"):
        envs.push(np.ones(2))


def test_what_was_returned_is_the_callers() -> None:
    envs, peer = (batch(task(start=1.0, steps=3)) for _ in range(2))
    envs.reset(seed=0)[0][:] = np.nan
    peer.reset(seed=0)
    for action_EM in actions(9, 3, 1):
        told, expected = envs.step(action_EM), peer.step(action_EM)
        check_same_step(told, expected)
        for spoilt in told[:4]:
            spoilt[:] = 1


def test_who_comes_to_the_bound_stays_there_and_pays() -> None:
    envs = batch(task({**SCALAR, "A": 2}, start=1.0, bound=3.0, steps=9))
    x_EN, _ = envs.reset(seed=1)
    for _ in range(8):
        before_EN = x_EN
        x_EN, reward_E, terminated_E, truncated_E, _ = envs.step(np.zeros((3, 1)))
        assert not (terminated_E | truncated_E).any()
        np.testing.assert_array_equal(x_EN, np.clip(2 * before_EN, -3, 3))
        np.testing.assert_allclose(reward_E, -np.square(before_EN[:, 0]))
    assert (np.abs(x_EN) == 3).all()


@pytest.mark.parametrize("engine", ["auto", "single"])
def test_a_state_that_is_not_finite_is_not_believed(engine: str) -> None:
    spec = task({**SCALAR, "B": 1e300}, start=1.0, bound=np.inf)
    if engine == "auto":
        envs: Any = batch(spec, 2)
    else:
        envs = SyncVectorEnv([partial(open_env, spec)] * 2, autoreset_mode=SAME_STEP)
    x_EN, _ = envs.reset(seed=0)
    _, reward_E, terminated_E, truncated_E, info = envs.step(np.array([[0], [1e30]]))
    assert (terminated_E.any(), truncated_E.tolist()) == (False, [False, True])
    assert reward_E[1] == 0
    np.testing.assert_array_equal(info["final_obs"][1], x_EN[1])
    lost = info if engine == "auto" else info["final_info"]
    assert lost[DIVERGED].tolist() == [False, True]


def test_states_that_are_not_finite_are_counted() -> None:
    tally = Tally()
    envs = open_envs(task({**SCALAR, "B": 1e300}, bound=np.inf), 2, 0, tally=tally)
    envs.reset()
    envs.step(np.array([[0], [1e30]]))
    assert (tally.episodes, tally.diverged) == (1, 1)
    with pytest.raises(TrialFailed, match="at most 1 % of the episodes may diverge"):
        envs.step(np.array([[1e30], [0]]))


def test_an_episode_that_ended_rests_until_it_is_reset() -> None:
    envs = batch(task(SCALAR, start=1.0, steps=5), mode=DISABLED)
    envs.reset(seed=1)
    envs.step(np.zeros((3, 1)))
    envs.reset(options={"reset_mask": np.array([True, False, True])})
    over_E = np.zeros(3, np.bool_)
    while not over_E.any():
        obs_EN, _, _, over_E, info = envs.step(np.zeros((3, 1)))
    assert not over_E.all()
    assert info == {}
    resting = obs_EN[over_E]
    for _ in range(2):
        obs_EN, reward_E, _, truncated_E, _ = envs.step(np.ones((3, 1)))
        np.testing.assert_array_equal(obs_EN[over_E], resting)
        assert not reward_E[over_E].any()
        assert not truncated_E[over_E].any()
    awake = obs_EN[~over_E]
    obs_EN, _ = envs.reset(options={"reset_mask": over_E})
    np.testing.assert_array_equal(obs_EN[~over_E], awake)
    assert not np.isin(obs_EN[over_E], resting).any()


def test_misuse_is_refused() -> None:
    envs = batch(task(), 2)
    for use in (envs.step, lambda _: envs.reset(options={"reset_mask": np.array([True, False])})):
        with pytest.raises(ResetNeeded):
            use(np.zeros((2, 1)))
    with pytest.raises(ValueError, match="reset_mask must be 2 bools"):
        envs.reset(options={"reset_mask": np.array([1, 0])})
    with pytest.raises(ValueError, match="seeds must be 2, but are 3"):
        envs.reset(seed=[1, 2, 3])
    envs.reset()
    with pytest.raises(ValueError, match=r"actions must be \(2, 1\), but are \(2, 2\)"):
        envs.step(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="NEXT_STEP"):
        Systems(open_env(task()), 2, autoreset_mode=AutoresetMode.NEXT_STEP)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"A": [[1, 0]]}, "A must be 1 x 1 where A is 1 x 2"),
        ({"B": [1, 2]}, r"B must be a number, or a list of rows .*; a column is written \[\[0.1\]"),
        ({"B": [[1], [2], [3]]}, "B must be 2 x 1 where A is 2 x 2 and B is 3 x 1, but is 3 x 1"),
        ({"D": [[1, 2]]}, "D must be 2 x 2 where .* but is 1 x 2"),
        ({"Q": [[1, 0], [0, -1]]}, "Q must be symmetric and positive semidefinite, but is"),
        ({"Q": [[1, 2], [0, 5]]}, "Q must be symmetric"),
        ({"R": 0}, "R must be symmetric and positive definite"),
        ({"R": [[1, 0], [0, 1]]}, "R must be 1 x 1"),
        ({"A": [[1, 2], [3]]}, "A must be a number, or a list of rows of numbers"),
        ({"A": "x"}, "A must be a number"),
        ({"A": [[1, np.nan], [0, 1]]}, "A must be .* all finite"),
        ({"noise": -1}, "noise must be a deviation, finite, but is -1"),
        ({"start": np.inf}, "start must be a deviation"),
        ({"steps": 0}, "steps must be a whole number, 1 at least, but is 0"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"bound": 0}, "bound must be above 0"),
    ],
)
def test_what_is_no_such_system_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        try_out([task(PLANE, **changes)])
    assert caught.value.at == "$.tasks[0].kwargs"


def test_a_key_that_it_does_not_take_is_refused() -> None:
    with pytest.raises(SpecError, match="'nois' is not; did you mean 'noise'") as caught:
        try_out([task(PLANE, nois=1)])
    assert caught.value.at == "$.tasks[0].kwargs.nois"


def test_costs_may_see_only_a_part() -> None:
    env = open_env(task({**PLANE, "Q": [[0, 0], [0, 1]]}, start=1.0))
    x, _ = env.reset(seed=0)
    assert env.step(np.zeros(1, np.float32))[1] == pytest.approx(-(x[1] ** 2))


def test_it_is_a_task_like_any_other() -> None:
    try_out([task()])
    world = world_spec([task(port=PortSpec(limit=2, best=0.0))], 4)
    assert (world.observation.shape, world.action.shape, world.forces) == ((2,), (1,), 2)
    world_ = open_world(task(port=PortSpec(limit=2, best=0.0)), 4, 0, {})
    world_.envs.reset()
    assert world_.port is not None
    world_.port.push(np.ones((4, 2)))
    np.testing.assert_allclose(world_.envs.step(np.zeros((4, 1)))[0], [[1, 2]] * 4)


def test_time_limits_of_both_kinds_hold() -> None:
    for limits, steps in (({"steps": 3}, 3), ({"steps": 9, "max_episode_steps": 4}, 4)):
        spec = task(**limits)
        envs = batch(spec, 1)
        assert envs.limit == steps
        envs.reset(seed=0)
        ends = [bool(envs.step(np.zeros((1, 1)))[3][0]) for _ in range(2 * steps)]
        assert ends == ([False] * (steps - 1) + [True]) * 2


def test_discounting_is_a_matter_of_scale() -> None:
    gamma = 0.9
    over = {**DRAWN, **{key: (MATRICES[key] / np.sqrt(gamma)).tolist() for key in "ABD"}}
    costs = []
    for matrices, factor in ((DRAWN, 1.0), (over, gamma)):
        envs, K = batch(task(matrices, start=1.0, bound=np.inf, steps=50)), Linear(np.eye(2, 3))
        obs_EN, _ = envs.reset(seed=0)
        total = np.zeros(3)
        for t in range(50):
            obs_EN, reward_E, *_ = envs.step(K(obs_EN))
            total += factor**t * reward_E
        costs.append(total)
    np.testing.assert_allclose(*costs, rtol=1e-9)


def test_an_exam_measures_what_is_exact() -> None:
    of = system(**DRAWN)
    K = lqr(of.A, of.B, of.Q, of.R)
    spec = task(DRAWN, noise=0.5, steps=4000)
    returns_EO = examine(Exam(spec, Linear(K), tuple(range(5)))).returns_EO
    assert -returns_EO.mean() / 4000 == pytest.approx(0.25 * h2_cost(*of, K), rel=0.05)
    one = OneByOne([open_env(spec) for _ in range(2)])
    obs, alone = one.reset([0, 1]), np.zeros(2)
    while one.running:
        rows = np.stack([*obs, *[obs[0]] * 14])  # an exam's policy sees sixteen
        taken = one.step(Linear(K)(rows))
        obs, alone = taken.obs, alone + taken.reward_EO[:, 0]
    np.testing.assert_array_equal(alone, returns_EO[:2, 0])


def test_an_exam_measures_what_a_disturber_comes_to() -> None:
    of = system(**SCALAR)  # type: ignore[arg-type]
    spec = task(SCALAR, port=PortSpec(limit=100, best=0.0), steps=2_000)
    for kappa in (0.0, 0.396, 0.7):
        strain = examine(Exam(spec, Pushing(0.9, kappa, 0.1), tuple(range(16)))).strain
        ratio = sum(s.cost for s in strain) / sum(s.energy for s in strain)
        assert ratio == pytest.approx(worst_ratio(*of, 0.9, kappa), rel=0.03)
        assert ratio < l2_gain(*of, 0.9) ** 2


def test_ppo_copes_without_bounds() -> None:
    spec = task(SCALAR, start=1.0, noise=0.1, steps=30, bound=20.0)
    agent = ppo.make(ppo.Config(n_steps=64, hidden=(8,)), world_spec([spec], 8), 0)
    seen = learn(agent, open_world(spec, 8, 0, {}), 0, 2048)
    assert all(np.isfinite(list(p.metrics.values())).all() for p in seen)
    (policy,) = agent.policies().values()
    assert policy(np.full((16, 1), 1e3)).shape == (16, 1)
