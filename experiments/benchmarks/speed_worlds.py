"""Measure how fast a batch of environments takes random actions, and print it as JSON.

    python speed_worlds.py bare|batch|ours|envpool|sync|async ENV SECONDS [--envs N] [--threads N]

`bare` is the floor: threads that call `mj_step(model, data, frame_skip)`, and for Ant and Humanoid
`mj_rnePostConstraint`, and nothing else: no observation, no reward, and none waits for another.
Its states begin anew as often as episodes end elsewhere. `batch` is the same, but its threads wait
for each other after each step, as whoever steps a batch must. `ours` is what a trial opens;
EnvPool, `sync` and `async` (Gymnasium's) are taken as they come.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_envs
from rigorl.tasks.robots.hands import Hands

CONTACTS = ("Ant", "Humanoid")
"""Whose observations hold contact forces, which MuJoCo works out only when asked."""
ACTIONS = 64
WARM_UP = 0.3


def envs_of(who: str, env: str, num_envs: int, threads: int) -> Any:
    """Open *who*'s batch of environments."""
    match who:
        case "ours":
            return open_envs(TaskSpec(name="task", env=env), num_envs, 0, threads=threads)
        case "envpool":
            import envpool  # noqa: PLC0415  heavy, and only this peer's

            return envpool.make_gymnasium(env, num_envs=num_envs, num_threads=threads, seed=0)
        case _:
            kind = {"sync": SyncVectorEnv, "async": AsyncVectorEnv}[who]
            mode = AutoresetMode.SAME_STEP
            return kind([partial(gym.make, env)] * num_envs, autoreset_mode=mode)


def stepping(who: str, env: str, num_envs: int, threads: int, seconds: float) -> float:
    """Return environment steps a second of *who*, observations and all."""
    envs = envs_of(who, env, num_envs, threads)
    envs.reset()
    space = gym.make(env).action_space
    space.seed(0)
    actions = [np.stack([space.sample() for _ in range(num_envs)]) for _ in range(ACTIONS)]
    rounds(lambda i: envs.step(actions[i % ACTIONS]), WARM_UP)
    rate = num_envs * rounds(lambda i: envs.step(actions[i % ACTIONS]), seconds)
    envs.close()
    return rate


def rounds(turn: Callable[[int], Any], seconds: float) -> float:
    """Return how often a second *turn* may be taken."""
    start, i = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        for _ in range(8):
            turn(i)
            i += 1
    return i / spent


def bare(env: str, num_envs: int, threads: int, seconds: float) -> float:
    """Return environment steps a second of MuJoCo alone, *num_envs* divided among *threads*."""
    ends, counts = threading.Event(), [0] * threads
    world: Any = gym.make(env).unwrapped
    world.action_space.seed(0)
    ctrls = [world.action_space.sample() for _ in range(ACTIONS)]
    play = partial(play_bare, world, ctrls, mean_life(env), ends, counts)
    shares = [len(range(number, num_envs, threads)) for number in range(threads)]
    workers = [threading.Thread(target=play, args=share) for share in enumerate(shares)]
    for worker in workers:
        worker.start()
    time.sleep(WARM_UP)
    before, clock = sum(counts), time.perf_counter()
    time.sleep(seconds)
    rate = (sum(counts) - before) / (time.perf_counter() - clock)
    ends.set()
    for worker in workers:
        worker.join()
    return rate


def batch(env: str, num_envs: int, threads: int, seconds: float) -> float:
    """Return environment steps a second of MuJoCo alone, all environments in step."""
    world: Any = gym.make(env).unwrapped
    world.action_space.seed(0)
    ctrls = [world.action_space.sample() for _ in range(ACTIONS)]
    datas = [mujoco.MjData(world.model) for _ in range(num_envs)]
    jobs = [partial(step_bare, world, data) for data in datas]
    hands, life = Hands(threads), mean_life(env)

    def turn(i: int) -> None:
        if i % life == 0:
            begin_bare(world, datas)
        for data in datas:
            data.ctrl[:] = ctrls[i % ACTIONS]
        hands.do(jobs)

    rounds(turn, WARM_UP)
    return num_envs * rounds(turn, seconds)


def begin_bare(world: Any, datas: list[Any]) -> None:
    for data in datas:
        mujoco.mj_resetData(world.model, data)
        data.qpos[:], data.qvel[:] = world.init_qpos, world.init_qvel


def step_bare(world: Any, data: Any) -> None:
    mujoco.mj_step(world.model, data, world.frame_skip)
    if type(world).__name__.startswith(CONTACTS):
        mujoco.mj_rnePostConstraint(world.model, data)


def play_bare(
    world: Any,
    ctrls: list[Any],
    life: int,
    ends: threading.Event,
    counts: list[int],
    number: int,
    share: int,
) -> None:
    """Step *share* states of *world* in turn; all begin anew after *life* steps."""
    model, skip = world.model, world.frame_skip
    step, work_out = mujoco.mj_step, mujoco.mj_rnePostConstraint
    contacts = type(world).__name__.startswith(CONTACTS)
    datas = [mujoco.MjData(model) for _ in range(share)]
    while True:
        begin_bare(world, datas)
        for i in range(life):
            ctrl = ctrls[i % ACTIONS]
            for data in datas:
                data.ctrl[:] = ctrl
                step(model, data, skip)
                if contacts:
                    work_out(model, data)
            counts[number] += share
            if ends.is_set():
                return


def mean_life(env: str) -> int:
    """Return how many steps an episode lasts under random actions."""
    world = gym.make(env)
    world.action_space.seed(0)
    world.reset(seed=0)
    ended = 0
    for _ in range(1_000):
        *_, terminated, truncated, _ = world.step(world.action_space.sample())
        if terminated or truncated:
            ended += 1
            world.reset()
    return 1_000 // max(ended, 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("who", choices=("bare", "batch", "ours", "envpool", "sync", "async"))
    parser.add_argument("env")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--envs", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    how = args.env, args.envs, args.threads, args.seconds
    alone = {"bare": bare, "batch": batch}
    rate = alone[args.who](*how) if args.who in alone else stepping(args.who, *how)
    print(json.dumps({"rate": rate, "seconds": args.seconds}), flush=True)


if __name__ == "__main__":
    main()
