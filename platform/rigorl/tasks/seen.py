"""An episode of an exam, step by step, for who looks on."""

from collections.abc import Generator
from typing import Any, NamedTuple

import mujoco  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from rigorl.errors import SpecError
from rigorl.tasks.exam import CHUNK, Exam, OneByOne, Room, opened, play
from rigorl.tasks.gauge import Gauge
from rigorl.tasks.port import Bodies
from rigorl.tasks.robots.batched import BatchedMujoco


class Moment(NamedTuple):
    """An episode after so many steps, what the last one earned, and what pushed in it.

    `forces` are of bodies, in newtons and in the world's frame; `limit` is that of the port. The
    simulation is the exam's own: who looks at `data` must leave it as it is.
    """

    step: int
    reward: float
    forces: dict[int, NDArray[np.float64]]
    limit: float
    model: Any
    data: Any

    @property
    def force(self) -> float:
        """The norm of all that pushes."""
        return float(np.linalg.norm([*self.forces.values()])) if self.forces else 0.0


def look_on(exam: Exam, episode: int) -> Generator[Moment, None, None]:
    """Play *episode* of *exam* as `examine` would, beside those of its chunk; yield each step.

    Raises `SpecError` where there is no simulation of MuJoCo's to look at.
    """
    row, start = episode % CHUNK, episode - episode % CHUNK
    episodes = exam.seeds[start : start + CHUNK]
    with opened(exam.task, len(episodes), exam.threads) as room:
        model, data = _simulation(exam, room, row)
        for step, (taken, gauge) in enumerate(play(exam, room, episodes), 1):
            reward, (forces, limit) = float(taken.reward_EO[row, 0]), _pushed(gauge, row)
            yield Moment(step, reward, forces, limit, model, data)
            if taken.over_E[row]:
                return


def _pushed(gauge: Gauge | None, row: int) -> tuple[dict[int, NDArray[np.float64]], float]:
    port = gauge.port if gauge else None
    return (port.acted(row), port.limit) if isinstance(port, Bodies) else ({}, 0.0)


def _simulation(exam: Exam, room: Room, row: int) -> tuple[Any, Any]:
    if isinstance(room.envs, BatchedMujoco):
        return room.envs.models[row], room.envs.datas[row]
    bare = room.envs[row].unwrapped if isinstance(room, OneByOne) else room.envs
    model, data = getattr(bare, "model", None), getattr(bare, "data", None)
    if not isinstance(model, mujoco.MjModel):
        raise SpecError(
            f"a film must be of a robot in MuJoCo, but task {exam.task.name!r} is {exam.task.env}"
            + (" of EnvPool; use `engine: auto`" if exam.task.engine == "envpool" else "")
            + "; name another task with --task"
        )
    return model, data
