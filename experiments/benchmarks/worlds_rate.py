"""Measure how fast batched worlds step, between MuJoCo alone and Gymnasium.

    python experiments/benchmarks/worlds_rate.py [--envs Ant-v5 ...] [--num-envs 16]
        [--threads 2] [--repeats 7] [--seconds 0.5]

A random rollout is recorded once: actions, and the states in which episodes begin. `bare` is
the bound: as many threads, each with its share of the simulations, do nothing but set controls,
`mj_step` and what Ant and Humanoid need besides, begin episodes by setting the state, and never
wait for each other. `ours` and `sync` are whole worlds that play the same actions, and so the
same physics. Each repetition plays the three in turn; ratios are medians of the ratios within
repetitions.
"""

import argparse
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import mujoco  # type: ignore[import-untyped]
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_env
from rigorl.tasks.robots.batched import BatchedMujoco

ENVS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5")
FORCES = ("Ant-v5", "Humanoid-v5")
Play = Callable[[], object]


class Record(NamedTuple):
    """A rollout: T steps of E environments; `begun[i][t]` is a state, set before step t."""

    env: str
    action_TEA: NDArray[np.float32]
    begun: list[dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]]


def record(env: str, num_envs: int, seconds: float) -> Record:
    """Record what one thread can play in *seconds*."""
    task = TaskSpec(name="task", env=env)
    envs = [open_env(task) for _ in range(num_envs)]
    shape = num_envs, *(envs[0].action_space.shape or ())
    luck, rollout = np.random.default_rng(0), Record(env, np.empty((0, *shape)), [])
    actions: list[Any] = []
    for i, one in enumerate(envs):
        one.reset(seed=i)
        rollout.begun.append({0: _state(one)})
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        actions.append(luck.uniform(-1, 1, shape).astype(np.float32))
        for one, begun, action_A in zip(envs, rollout.begun, actions[-1], strict=True):
            _, _, terminated, truncated, _ = one.step(action_A)
            if terminated or truncated:
                one.reset()
                begun[len(actions)] = _state(one)
    return rollout._replace(action_TEA=np.stack(actions))


def _state(env: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return env.unwrapped.data.qpos.copy(), env.unwrapped.data.qvel.copy()


def bare(rollout: Record, threads: int) -> Play:
    """Return what plays *rollout* in simulations without a world."""
    env: Any = open_env(TaskSpec(name="task", env=rollout.env)).unwrapped
    datas = [mujoco.MjData(env.model) for _ in rollout.begun]
    job = partial(_step, env.model, env.frame_skip, datas, rollout)
    shares = [range(i, len(datas), threads) for i in range(threads)]

    def play() -> None:
        others = [threading.Thread(target=job, args=(share,)) for share in shares[1:]]
        for thread in others:
            thread.start()
        job(shares[0])
        for thread in others:
            thread.join()

    return play


def _step(model: Any, frame_skip: int, datas: list[Any], rollout: Record, share: range) -> None:
    forces = rollout.env in FORCES
    mine = [(datas[i], datas[i].ctrl, rollout.begun[i], i) for i in share]
    for t, action_EA in enumerate(rollout.action_TEA):
        for data, ctrl_A, begun, i in mine:
            if t in begun:
                mujoco.mj_resetData(model, data)
                data.qpos[:], data.qvel[:] = begun[t]
            ctrl_A[:] = action_EA[i]
            mujoco.mj_step(model, data, frame_skip)
            if forces:
                mujoco.mj_rnePostConstraint(model, data)


def whole(envs: Any, rollout: Record) -> Play:
    """Return what plays *rollout* in a world."""

    def play() -> None:
        envs.reset(seed=0)
        for action_EA in rollout.action_TEA:
            envs.step(action_EA)

    return play


def measure(env: str, num_envs: int, threads: int, repeats: int, seconds: float) -> str:
    """Return a line of the table."""
    make = partial(open_env, TaskSpec(name="task", env=env))
    rollout = record(env, num_envs, seconds)
    sync = SyncVectorEnv([make] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    ours = BatchedMujoco(make(), num_envs, threads=threads)
    players = bare(rollout, threads), whole(ours, rollout), whole(sync, rollout)
    seconds_RP = np.array([[_seconds(play) for play in players] for _ in range(repeats + 1)])[1:]
    ours.close()
    sync.close()
    rate_P = np.median(np.prod(rollout.action_TEA.shape[:2]) / seconds_RP, axis=0)
    of_bare = np.median(seconds_RP[:, 0] / seconds_RP[:, 1])
    of_sync = np.median(seconds_RP[:, 2] / seconds_RP[:, 1])
    cells = [env, *(f"{rate:,.0f}" for rate in rate_P), f"{of_bare:.2f}", f"{of_sync:.2f}"]
    return f"| {' | '.join(cells)} |"


def _seconds(play: Play) -> float:
    start = time.perf_counter()
    play()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", nargs="+", default=ENVS)
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5)
    args = parser.parse_args()
    gym.logger.min_level = gym.logger.ERROR
    print(f"{args.num_envs} environments, {args.threads} threads; steps of environments a second")
    print("| env | bare | ours | sync | ours / bare | ours / sync |")
    print("|---|---|---|---|---|---|")
    for env in args.envs:
        print(measure(env, args.num_envs, args.threads, args.repeats, args.seconds), flush=True)


if __name__ == "__main__":
    main()
