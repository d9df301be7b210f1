"""Batched worlds beside Gymnasium's for long, and what becomes of forgotten ones."""

import resource
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.robots import NAMES, actions, check_rollout, check_same_step, ours, task, theirs

ROOT = Path(__file__).parents[2]
PHYSICS = {"gravity": [1, 0.5, -7], "mass": 0.7}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("physics", [{}, PHYSICS], ids=["plain", "altered"])
def test_a_long_rollout_is_gymnasiums(name: str, physics: dict[str, Any]) -> None:
    terminated, truncated = check_rollout(
        task(name, physics, max_episode_steps=210), 1_000, num_envs=4, threads=2
    )
    assert terminated + truncated >= 16


@pytest.mark.parametrize("name", ["Ant", "Hopper", "Humanoid", "Walker2d"])
def test_lying_on_the_floor_is_gymnasiums(name: str) -> None:
    _, truncated = check_rollout(task(name, terminate_when_unhealthy=False), 1_050, threads=2)
    assert truncated == 3


def test_long_pushes_are_gymnasiums() -> None:
    spec, luck = task("Humanoid"), np.random.default_rng(0)
    mine, peer = ours(spec, threads=2), theirs(spec)
    datas = [env.unwrapped.data for env in peer.envs]  # type: ignore[attr-defined]
    check_same_step(mine.reset(seed=0), peer.reset(seed=0))
    for t, action_EA in enumerate(actions(peer, 500)):
        wrench_EB6 = luck.normal(0, 50, (3, *datas[0].xfrc_applied.shape)) * (t % 3 == 0)
        mine.push(wrench_EB6)
        for data, wrench_B6 in zip(datas, wrench_EB6, strict=True):
            data.xfrc_applied[:] = wrench_B6
        check_same_step(mine.step(action_EA), peer.step(action_EA))


def test_a_forgotten_world_does_not_keep_its_process_alive() -> None:
    code = (
        "from helpers.robots import actions, ours, task\n"
        "envs = ours(task('Ant'), 4, threads=3)\n"
        "envs.reset(seed=0)\n"
        "for action_EA in actions(envs, 20): envs.step(action_EA)\n"
        "circle = [envs]; circle.append(circle)\n"
        "print('end')"
    )
    paths = f"{ROOT / 'platform'}:{ROOT / 'tests'}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": paths},
    )
    assert (done.stdout, done.stderr) == ("end\n", "")


def test_forgotten_worlds_leave_no_memory_behind() -> None:
    spec = task("Humanoid")

    def use() -> int:
        envs = ours(spec, 16, threads=2)
        envs.reset(seed=0)
        for action_EA in actions(envs, 5):
            envs.step(action_EA)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    first = [use() for _ in range(10)][-1]
    last = [use() for _ in range(60)][-1]
    assert last - first < 20_000, "KiB"  # the simulations of one world are as much


def test_steps_leave_no_memory_behind() -> None:
    envs = ours(task("Hopper", max_episode_steps=7), 8, threads=2)
    envs.reset(seed=0)

    def use() -> int:
        for action_EA in actions(envs, 2_000):
            envs.step(action_EA)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    used = [use() for _ in range(5)][1:]  # whoever else lives in this process may grow once
    assert min(after - before for before, after in pairwise(used)) < 100, "KiB"
