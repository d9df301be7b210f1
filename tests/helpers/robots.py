"""Our batched worlds beside Gymnasium's, step by step."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_env
from rigorl.tasks.robots.batched import BatchedMujoco

ROBOT = Path(__file__).parents[2] / "experiments" / "hinf" / "robots" / "quadruped.xml"
NAMES = (
    "Ant",
    "HalfCheetah",
    "Hopper",
    "Humanoid",
    "InvertedDoublePendulum",
    "InvertedPendulum",
    "Pusher",
    "Reacher",
    "Swimmer",
    "Walker2d",
)


def task(name: str, physics: Mapping[str, Any] | None = None, **kwargs: Any) -> TaskSpec:
    return TaskSpec(name="task", env=f"{name}-v5", kwargs=kwargs, physics=dict(physics or {}))


def ours(spec: TaskSpec, num_envs: int = 3, **how: Any) -> BatchedMujoco:
    return BatchedMujoco(open_env(spec), num_envs, **how)


def theirs(
    spec: TaskSpec, num_envs: int = 3, mode: AutoresetMode = AutoresetMode.SAME_STEP
) -> SyncVectorEnv:
    return SyncVectorEnv([partial(open_env, spec)] * num_envs, autoreset_mode=mode)


def check_same(mine: Any, peer: Any, at: str = "") -> None:
    """Check types, shapes and values; numbers to 1e-9."""
    assert type(mine) is type(peer), at
    if isinstance(peer, dict):
        assert mine.keys() == peer.keys(), at
        for key in peer:
            check_same(mine[key], peer[key], f"{at}.{key}")
    elif isinstance(peer, tuple):
        assert len(mine) == len(peer), at
        for i, pair in enumerate(zip(mine, peer, strict=True)):
            check_same(*pair, f"{at}[{i}]")
    elif isinstance(peer, np.ndarray) and peer.dtype == object:
        check_same(tuple(mine), tuple(peer), at)
    elif isinstance(peer, np.ndarray):
        assert (mine.dtype, mine.shape) == (peer.dtype, peer.shape), at
        np.testing.assert_allclose(mine, peer, rtol=1e-9, atol=1e-9, err_msg=at)
    else:
        assert mine == peer, at


def check_same_step(mine: Any, peer: Any) -> None:
    """Check what a step or reset returned. Observations must be the same to the bit."""
    np.testing.assert_array_equal(mine[0], peer[0])
    check_same(mine, peer)


def actions(envs: Any, steps: int, scale: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    """Return as many random actions, some out of bounds if *scale* is above 1."""
    high = envs.action_space.high
    drawn = np.random.default_rng(seed).uniform(-scale, scale, (steps, *high.shape))
    return (drawn * high).astype(np.float32)


def check_rollout(spec: TaskSpec, steps: int, num_envs: int = 3, **how: Any) -> tuple[int, int]:
    """Check a rollout against Gymnasium's. Return how many episodes terminated and truncated."""
    mine, peer = ours(spec, num_envs, **how), theirs(spec, num_envs)
    check_same_step(mine.reset(seed=7), peer.reset(seed=7))
    ended = np.zeros(2, dtype=np.intp)
    for action_EA in actions(peer, steps, scale=1.5):
        expected = peer.step(action_EA)
        check_same_step(mine.step(action_EA), expected)
        ended += np.sum(expected[2:4], axis=1)
    check_same_step(mine.reset(), peer.reset())
    mine.close()
    peer.close()
    return int(ended[0]), int(ended[1])
