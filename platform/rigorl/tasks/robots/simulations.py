"""A MuJoCo simulation for each environment, stepped by threads, read as rows.

Shapes: E environments, R numbers read of a simulation (see `robot.py`), A action, B bodies.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import mujoco  # type: ignore[import-untyped]
import numpy as np
from gymnasium.utils import seeding
from numpy.typing import NDArray

from rigorl.tasks.physics import HUGE, came_apart, hear_warnings, unstable_count
from rigorl.tasks.robots.hands import Hands, Job
from rigorl.tasks.robots.robot import Array, Robot
from rigorl.tasks.variation import Variation


class Simulations:
    """One simulation for each of *models*. What happens in one depends on no other.

    `bare` is an environment of Gymnasium. Its own code begins the episodes, which is exact and
    fast enough: it is lent another simulation, and another stream of luck, each time.
    """

    def __init__(
        self,
        bare: Any,
        models: Sequence[mujoco.MjModel],
        variations: Sequence[Variation],
        robot: Robot,
        threads: int,
    ) -> None:
        hear_warnings()
        self._heard = unstable_count()
        self._bare, self._models, self._variations = bare, models, variations
        self.datas = [mujoco.MjData(model) for model in models]
        # MuJoCo never moves the arrays of a simulation: these views are good for ever.
        self._parts = [robot.parts(data) for data in self.datas]
        self._flat_parts = [part for parts in self._parts for part in parts]
        self._ctrls = [data.ctrl for data in self.datas]
        self._pushes = [data.xfrc_applied for data in self.datas]
        self._pushed = False
        self._jobs = [
            _job(model, data, bare.frame_skip, robot)
            for model, data in zip(models, self.datas, strict=True)
        ]
        self._hands = Hands(min(threads, len(models)))
        self._luck: list[tuple[np.random.Generator | None, int | None]]
        self._luck = [(None, None)] * len(models)

    def blank(self) -> Array:
        """Return rows_ER to be filled."""
        return np.empty((len(self._parts), sum(part.size for part in self._parts[0])))

    def begin(
        self, i: int, rows_ER: Array, seed: int | None = None, options: Any = None
    ) -> dict[str, Any]:
        """Begin an episode of environment *i*, fill its row, and return its info."""
        if self._variations:
            self._variations[i].draw(seed)
        own = vars(self._bare)
        own["model"], own["data"] = self._models[i], self.datas[i]
        own["_np_random"], own["_np_random_seed"] = self._luck[i]
        info: dict[str, Any] = self._bare.reset(seed=seed, options=options)[1]
        self._luck[i] = own["_np_random"], own["_np_random_seed"]
        np.concatenate(self._parts[i], out=rows_ER[i])
        return info

    def luck(self, i: int) -> tuple[np.random.Generator, int]:
        """Return the random stream of environment *i*, and its seed (-1: not known)."""
        generator, seed = self._luck[i]
        if generator is None or seed is None:
            generator, seed = self._luck[i] = seeding.np_random()
        return generator, seed

    def step(self, before_ER: Array, action_EA: Any, resting: Collection[int]) -> Array:
        """Step all simulations but those that rest. Return now_ER."""
        for ctrl_A, action_A in zip(self._ctrls, action_EA, strict=True):
            ctrl_A[:] = action_A
        if not resting:
            self._hands.do(self._jobs)
            now_ER = np.empty_like(before_ER)
            np.concatenate(self._flat_parts, out=now_ER.reshape(-1))
        else:
            awake = [i for i in range(len(self._jobs)) if i not in resting]
            self._hands.do([self._jobs[i] for i in awake])
            now_ER = before_ER.copy()
            for i in awake:
                np.concatenate(self._parts[i], out=now_ER[i])
        if self._pushed:
            for push_B6 in self._pushes:
                push_B6[:] = 0
            self._pushed = False
        return now_ER

    def push(self, wrench_EB6: Array) -> None:
        shape = len(self._pushes), *self._pushes[0].shape
        if np.shape(wrench_EB6) != shape:
            raise ValueError(f"wrench_EB6 must be {shape}, but is {np.shape(wrench_EB6)}")
        for push_B6, wrench_B6 in zip(self._pushes, wrench_EB6, strict=True):
            push_B6[:] = wrench_B6
        self._pushed = True

    def turned(self, bodies: Sequence[int]) -> Array:
        """Return turn_EN33 of *bodies*, as they stand now."""
        turn_EN33 = np.empty((len(self.datas), len(bodies), 3, 3))
        for turn_N33, model, data in zip(turn_EN33, self._models, self.datas, strict=True):
            mujoco.mj_kinematics(model, data)  # a step leaves bodies where they were before it
            turn_N33[:] = data.xmat[list(bodies)].reshape(-1, 3, 3)
        return turn_EN33

    def lost(self, now_ER: Array, resting: Collection[int]) -> NDArray[np.bool_] | None:
        """Return which simulations diverged in the step that led to *now*; `None`: none did.

        An ordinary step costs one look at the sum of the squares of all that is read, and one
        at how many warnings were heard, which may be another world's.
        """
        heard = unstable_count()
        if heard == self._heard and np.vdot(now_ER, now_ER) < HUGE**2:
            return None
        self._heard = heard
        pairs = zip(self.datas, now_ER, strict=True)
        lost = [i not in resting and _is_lost(*pair) for i, pair in enumerate(pairs)]
        return np.array(lost) if any(lost) else None

    def close(self) -> None:
        """End the threads."""
        self._hands.close()


def _job(model: mujoco.MjModel, data: mujoco.MjData, frame_skip: int, robot: Robot) -> Job:
    step = partial(mujoco.mj_step, model, data, frame_skip)
    if not robot.forces:
        return step
    return partial(_step_and_feel, step, partial(mujoco.mj_rnePostConstraint, model, data))


def _step_and_feel(step: Job, feel: Job) -> None:
    step()
    feel()


def _is_lost(data: mujoco.MjData, row_R: Array) -> bool:
    return came_apart(data) or not np.isfinite(row_R).all()
