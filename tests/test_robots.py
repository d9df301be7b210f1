"""Batched worlds: Gymnasium's robots, as Gymnasium has them. Long rollouts are in slow/."""

import threading
import time
import weakref
from typing import Any

import gymnasium as gym
import mujoco  # type: ignore[import-untyped]
import numpy as np
import pytest
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import ClipAction

from helpers.robots import (
    NAMES,
    actions,
    check_rollout,
    check_same,
    check_same_step,
    ours,
    task,
    theirs,
)
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_env
from rigorl.tasks.robots.batched import BatchedMujoco
from rigorl.tasks.robots.hands import Hands
from rigorl.tasks.robots.known import covers
from rigorl.tasks.world import DIVERGED

DISABLED = AutoresetMode.DISABLED
HOPPER = task("Hopper")
CHEETAH = task("HalfCheetah", max_episode_steps=9)


@pytest.mark.parametrize("name", NAMES)
def test_a_rollout_is_gymnasiums(name: str) -> None:
    _, truncated = check_rollout(task(name, max_episode_steps=5), 24, threads=2)
    assert truncated > 0


def test_episodes_that_end_early_are_gymnasiums() -> None:
    for name in ("Hopper", "InvertedPendulum"):
        terminated, truncated = check_rollout(task(name), 60)
        assert terminated > 0
        assert truncated == 0


VARIANTS = [
    task("HalfCheetah", exclude_current_positions_from_observation=False, ctrl_cost_weight=1),
    task("Hopper", terminate_when_unhealthy=False, healthy_reward=2, healthy_z_range=[1.2, 1.24]),
    task("Hopper", healthy_state_range=[-0.4, 0.3], healthy_angle_range=[-0.1, 0.5]),
    task("Walker2d", xml_file="walker2d.xml", frame_skip=2, healthy_angle_range=[-0.1, 0.1]),
    task("Ant", include_cfrc_ext_in_observation=False, main_body="aux_1", frame_skip=3),
    task("Ant", contact_force_range=[-0.1, 0.3], healthy_reward=3, healthy_z_range=[0.5, 0.9]),
    task("Humanoid", include_cinert_in_observation=False, contact_cost_weight=0.1),
    task("Humanoid", include_cfrc_ext_in_observation=False, terminate_when_unhealthy=False),
    task("Swimmer", exclude_current_positions_from_observation=False, reset_noise_scale=1),
    task("InvertedDoublePendulum", healthy_reward=3, reset_noise_scale=0.2),
    task("Pusher", reward_near_weight=2, reward_control_weight=1),
    task("Ant", {"gravity": [0.5, 0, -4], "mass": {"torso": 2}, "friction": 0.5}),
    task("Humanoid", {"mass": {"torso": 3}, "damping": 0.5}),
    task("Walker2d", {"gear": {"leg_joint": 0.0, "foot_left_joint": 0.3}}),
]


@pytest.mark.parametrize("spec", VARIANTS, ids=lambda spec: f"{spec.env} {spec.kwargs}")
def test_kwargs_and_physics_are_heeded(spec: TaskSpec) -> None:
    check_rollout(spec, 14, num_envs=2)


def test_time_begins_anew_with_a_reset() -> None:
    mine, peer = ours(CHEETAH), theirs(CHEETAH)
    for _ in range(2):
        check_same_step(mine.reset(seed=7), peer.reset(seed=7))
        for action_EA in actions(peer, 6):
            check_same_step(mine.step(action_EA), peer.step(action_EA))


def test_seeds_are_gymnasiums() -> None:
    mine, peer = ours(HOPPER), theirs(HOPPER)
    for seed in (3, [5, 6, 7], [1, None, 2], None):
        check_same_step(mine.reset(seed=seed), peer.reset(seed=seed))  # type: ignore[arg-type]
        assert mine.np_random_seed == peer.np_random_seed
    assert [luck.random() for luck in mine.np_random] == [luck.random() for luck in peer.np_random]
    with pytest.raises(ValueError, match="seeds must be 3"):
        mine.reset(seed=[1, 2])
    assert isinstance(ours(HOPPER).np_random_seed[1], int)  # made up where none was given


def test_it_says_what_gymnasium_says_of_itself() -> None:
    mine, peer = ours(HOPPER), theirs(HOPPER)
    for name in ("single_observation_space", "single_action_space", "num_envs", "metadata"):
        assert getattr(mine, name) == getattr(peer, name)
    assert (mine.observation_space, mine.action_space) == (
        peer.observation_space,
        peer.action_space,
    )
    for envs in (mine, peer):
        envs.action_space.seed(1)
    np.testing.assert_array_equal(mine.action_space.sample(), peer.action_space.sample())


def test_each_environment_may_have_physics_of_its_own() -> None:
    specs = [task("Humanoid", {"gravity": g, "mass": {"torso": m}}) for g, m in ((2, 3), (9, 1))]
    models = [open_env(spec).unwrapped.model for spec in specs]  # type: ignore[attr-defined]
    mine = ours(task("Humanoid"), 2, models=models, threads=2)
    peer = SyncVectorEnv(
        [lambda spec=spec: open_env(spec) for spec in specs],
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    check_same_step(mine.reset(seed=1), peer.reset(seed=1))
    for action_EA in actions(peer, 15):
        check_same_step(mine.step(action_EA), peer.step(action_EA))
    with pytest.raises(ValueError, match="models must be 3, but are 2"):
        ours(task("Humanoid"), 3, models=models)


def rollout(envs: BatchedMujoco, acts: Any) -> list[Any]:
    return [envs.reset(seed=4), *(envs.step(action_EA) for action_EA in acts)]


def test_neither_threads_nor_neighbours_change_a_bit() -> None:
    acts = actions(ours(CHEETAH, 5), 20)
    one, two, six = (rollout(ours(CHEETAH, 5, threads=n), acts) for n in (1, 2, 6))
    alone = rollout(ours(CHEETAH, 1), acts[:, :1])
    for step, other, third, first in zip(one, two, six, alone, strict=True):
        for values, others, thirds, firsts in zip(step[:-1], other, third, first, strict=False):
            np.testing.assert_array_equal(values, others)
            np.testing.assert_array_equal(values, thirds)
            np.testing.assert_array_equal(values[:1], firsts)


def test_what_was_returned_is_the_callers() -> None:
    mine, peer = ours(CHEETAH, 2), theirs(CHEETAH, 2)
    mine.reset(seed=1)[0][:] = np.nan
    peer.reset(seed=1)
    for action_EA in actions(peer, 12):
        obs_ED, reward_E, terminated_E, truncated_E, info = mine.step(action_EA)
        check_same_step((obs_ED, reward_E, terminated_E, truncated_E, info), peer.step(action_EA))
        terminated_E[:], truncated_E[:] = True, True
        for spoilt in (obs_ED, reward_E, *info.values()):
            if isinstance(spoilt, np.ndarray):
                spoilt[:] = 0


def test_an_episode_that_ended_rests_until_it_is_reset() -> None:
    mine, peer = ours(HOPPER, autoreset_mode=DISABLED), theirs(HOPPER, mode=DISABLED)
    check_same_step(mine.reset(seed=0), peer.reset(seed=0))
    acts = iter(actions(peer, 300))
    while True:
        action_EA = next(acts)
        mine_step, expected = mine.step(action_EA), peer.step(action_EA)
        check_same_step(mine_step, expected)
        over_E = expected[2]
        if over_E.any():
            break
    assert not over_E.all()
    for _ in range(3):
        obs_ED, reward_E, terminated_E, truncated_E, info = mine.step(next(acts))
        np.testing.assert_array_equal(obs_ED[over_E], expected[0][over_E])
        assert not np.array_equal(obs_ED[~over_E], expected[0][~over_E])
        assert not np.any((reward_E[over_E], terminated_E[over_E], truncated_E[over_E]))
        np.testing.assert_array_equal(info["_x_position"], ~over_E)
    awake = obs_ED[~over_E]
    options = {"reset_mask": over_E}
    obs_ED, info = mine.reset(seed=9, options=options)
    check_same((obs_ED[over_E], info), (peer.reset(seed=9, options=dict(options))[0][over_E], info))
    np.testing.assert_array_equal(obs_ED[~over_E], awake)
    np.testing.assert_array_equal(info["_x_position"], over_E)
    assert mine.step(next(acts))[1].all()


def test_a_mask_must_be_one() -> None:
    envs = ours(HOPPER, 2)
    with pytest.raises(ResetNeeded):
        envs.reset(options={"reset_mask": np.array([True, False])})
    for wrong in (np.array([True]), np.array([1, 0]), np.array([False, False])):
        with pytest.raises(ValueError, match="reset_mask must be 2 bools"):
            envs.reset(options={"reset_mask": wrong})


def test_a_push_lasts_for_a_step() -> None:
    spec = task("Ant")  # whose observation holds the forces
    mine, peer = ours(spec, 2), theirs(spec, 2)
    datas = [env.unwrapped.data for env in peer.envs]  # type: ignore[attr-defined]
    wrench_EB6 = np.random.default_rng(0).normal(0, 20, (2, *datas[0].xfrc_applied.shape))
    check_same_step(mine.reset(seed=0), peer.reset(seed=0))
    for t, action_EA in enumerate(actions(peer, 8)):
        if t in {2, 5}:
            mine.push(wrench_EB6)
            mine.push(t * wrench_EB6)
        for data, wrench_B6 in zip(datas, wrench_EB6, strict=True):
            data.xfrc_applied[:] = t * wrench_B6 if t in {2, 5} else 0
        check_same_step(mine.step(action_EA), peer.step(action_EA))
    with pytest.raises(ValueError, match=r"wrench_EB6 must be \(2, "):
        mine.push(wrench_EB6[0])


def test_a_reset_forgets_the_push() -> None:
    mine, peer = ours(task("Swimmer"), 2), theirs(task("Swimmer"), 2)
    mine.reset(seed=0)
    mine.push(np.full((2, mine._simulations._pushes[0].shape[0], 6), 30.0))
    check_same_step(mine.reset(seed=1), peer.reset(seed=1))
    for action_EA in actions(peer, 2):
        check_same_step(mine.step(action_EA), peer.step(action_EA))


def derail(envs: BatchedMujoco, i: int, speed: float = 1e12) -> None:
    envs._simulations.datas[i].qvel[1] = speed


@pytest.mark.parametrize("speed", [1e12, np.nan])
def test_a_simulation_that_diverges_ends_its_episode(speed: float) -> None:
    mine, peer = ours(CHEETAH, threads=2), theirs(CHEETAH)
    mine.reset(seed=0)
    peer.reset(seed=0)
    acts = actions(peer, 8)
    before = mine.step(acts[0])[0]
    peer.step(acts[0])
    derail(mine, 1, speed)
    obs_ED, reward_E, terminated_E, truncated_E, info = mine.step(acts[1])
    expected = peer.step(acts[1])
    for i in (0, 2):  # to them nothing happened
        np.testing.assert_array_equal(obs_ED[i], expected[0][i])
        assert reward_E[i] == expected[1][i]
    assert (reward_E[1], terminated_E.any(), truncated_E.tolist()) == (0, False, [0, 1, 0])
    np.testing.assert_array_equal(info["final_obs"][1], before[1])
    assert info["final_info"] == {}
    assert info[DIVERGED].tolist() == info[f"_{DIVERGED}"].tolist() == [False, True, False]
    assert info["_x_position"].all()  # a new one began
    assert info["_x_velocity"].tolist() == [True, False, True]
    assert not np.array_equal(obs_ED[1], before[1])
    *_, truncated_E, info = mine.step(acts[2])
    assert DIVERGED not in info
    assert not truncated_E.any()
    derail(mine, 1, speed)  # MuJoCo warns again
    assert mine.step(acts[3])[-1][DIVERGED].tolist() == [False, True, False]


def test_a_simulation_that_diverged_rests_where_it_was() -> None:
    envs = ours(CHEETAH, autoreset_mode=DISABLED)
    before, _ = envs.reset(seed=0)
    derail(envs, 2)
    *_, truncated_E, info = envs.step(np.zeros((3, 6)))
    assert truncated_E.tolist() == [False, False, True]
    for _ in range(2):
        obs_ED, _, _, truncated_E, info = envs.step(np.zeros((3, 6)))
        np.testing.assert_array_equal(obs_ED[2], before[2])
        assert not truncated_E.any()
        assert DIVERGED not in info
    envs.reset(options={"reset_mask": np.array([False, False, True])})
    assert DIVERGED not in envs.step(np.zeros((3, 6)))[-1]


def test_another_worlds_trouble_is_not_ours() -> None:
    one, other = ours(CHEETAH), ours(CHEETAH)
    for envs in (one, other):
        envs.reset(seed=0)
    derail(one, 0)
    assert DIVERGED in one.step(np.zeros((3, 6)))[-1]
    assert DIVERGED not in other.step(np.zeros((3, 6)))[-1]


def test_forces_beyond_reason_diverge() -> None:
    envs = ours(task("Swimmer", frame_skip=1), 2)
    before, _ = envs.reset(seed=0)
    envs.push(np.full((2, envs._simulations._pushes[0].shape[0], 6), 1e300))
    obs_ED, *_, info = envs.step(np.zeros((2, 2)))
    assert info[DIVERGED].all()
    np.testing.assert_array_equal(np.stack(info["final_obs"]), before)
    assert np.isfinite(obs_ED).all()


def test_a_place_that_mujoco_will_call_bad_is_not_shown() -> None:
    envs = ours(task("HalfCheetah", frame_skip=1), 2, autoreset_mode=DISABLED)
    before, _ = envs.reset(seed=0)
    data = envs._simulations.datas[0]
    data.qpos[0], data.qvel[0] = 1e10 - 1, 1e3
    obs_ED, *_, info = envs.step(np.zeros((2, 6)))
    assert not any(warning.number for warning in data.warning)
    assert data.qpos[0] > 1e10
    assert info[DIVERGED].tolist() == [True, False]
    np.testing.assert_array_equal(obs_ED[0], before[0])


def test_a_reward_that_is_not_finite_is_a_divergence() -> None:
    envs = ours(CHEETAH, 2)
    before, _ = envs.reset(seed=0)
    with np.errstate(over="ignore"):
        _, reward_E, _, truncated_E, info = envs.step([[1e300] * 6, [0.1] * 6])
    assert truncated_E.tolist() == info[DIVERGED].tolist() == [True, False]
    assert reward_E[0] == 0 != reward_E[1]
    np.testing.assert_array_equal(info["final_obs"][0], before[0])


class Taller(HopperEnv):
    """It may do anything."""


gym.register("rigorl-test/Taller-v0", entry_point=Taller, max_episode_steps=10)


def test_what_is_covered() -> None:
    for name in NAMES:
        assert covers(gym.make(f"{name}-v5"))
    assert covers(gym.make("Hopper-v5"))  # with Gymnasium's checker
    assert not covers(ClipAction(gym.make("Hopper-v5")))
    assert not covers(gym.make("rigorl-test/Taller-v0"))
    assert not covers(gym.make("HumanoidStandup-v5"))
    assert not covers(gym.make("Hopper-v5", render_mode="rgb_array"))
    assert not covers(gym.make("CartPole-v1"))


def test_what_cannot_be_is_said() -> None:
    envs = ours(HOPPER, 2)
    with pytest.raises(ResetNeeded):
        envs.step(np.zeros((2, 3)))
    envs.reset()
    with pytest.raises(ValueError, match=r"actions must be \(2, 3\), but are \(3, 3\)"):
        envs.step(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="autoreset_mode"):
        ours(HOPPER, 2, autoreset_mode=AutoresetMode.NEXT_STEP)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_in_a_job_is_the_callers(threads: int) -> None:
    def job() -> None:
        time.sleep(0.01)  # so that all hands get one
        raise ZeroDivisionError

    hands = Hands(threads)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            hands.do([job] * 6)
    hands.close()


def test_threads_end_with_their_world() -> None:
    before = set(threading.enumerate())
    closed, forgotten = ours(HOPPER, 4, threads=4), ours(HOPPER, 4, threads=2)
    threads = set(threading.enumerate()) - before
    assert len(threads) == 4
    closed.reset(seed=0)
    closed.close()
    closed.close()
    gone = weakref.ref(forgotten)
    del forgotten
    assert gone() is None  # at once: it is part of no circle
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def test_an_error_of_a_thread_is_the_callers() -> None:
    envs = ours(HOPPER, 2, threads=2)
    envs.reset(seed=0)

    def fail() -> None:
        time.sleep(0.01)
        raise mujoco.FatalError("no")

    envs._simulations._jobs = [fail, fail]
    with pytest.raises(mujoco.FatalError):
        envs.step(np.zeros((2, 3)))
