"""Robots that stand where they are: two pendulums, Pusher and Reacher, v5 of Gymnasium.

Shapes as in `robot.py`. What is read of a simulation is said by each.
"""

from collections.abc import Sequence
from typing import Any

import mujoco  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from rigorl.tasks.robots.robot import Array, Judgement, control_cost, length, never


class InvertedPendulum:
    """A row is (qpos, qvel), and that is what is observed."""

    forces = False

    def __init__(self, bare: Any, models: Sequence[mujoco.MjModel]) -> None:
        pass

    def parts(self, data: mujoco.MjData) -> Sequence[Array]:
        return data.qpos, data.qvel

    def observe(self, rows_ER: Array) -> Array:
        return rows_ER.copy()

    def judge(self, before_ER: Array, now_ER: Array, action_EA: NDArray[Any]) -> Judgement:
        del before_ER, action_EA
        terminated_E: NDArray[np.bool_] = np.abs(now_ER[:, 1]) > 0.2  # noqa: PLR2004
        survive_E = (~terminated_E).astype(np.int64)
        info = {"reward_survive": survive_E}
        return Judgement(survive_E.astype(np.float64), terminated_E, info)


class InvertedDoublePendulum:
    """A row is (x and z of the tip, qpos, qvel, the first of qfrc_constraint)."""

    forces = False

    def __init__(self, bare: Any, models: Sequence[mujoco.MjModel]) -> None:
        del models
        self.healthy_reward = vars(bare)["_healthy_reward"]
        self.velocities = 2 + bare.model.nq

    def parts(self, data: mujoco.MjData) -> Sequence[Array]:
        return data.site_xpos[0, ::2], data.qpos, data.qvel, data.qfrc_constraint[:1]

    def observe(self, rows_ER: Array) -> Array:
        # Contiguous: NumPy's sine of other arrays may differ in the last bit.
        angle_EV = rows_ER[:, 3 : self.velocities].copy()
        pushes_EV = np.clip(rows_ER[:, self.velocities :], -10, 10)
        parts = rows_ER[:, 2:3], np.sin(angle_EV), np.cos(angle_EV), pushes_EV
        return np.concatenate(parts, axis=1)

    def judge(self, before_ER: Array, now_ER: Array, action_EA: NDArray[Any]) -> Judgement:
        del before_ER, action_EA
        x_E, z_E = now_ER[:, 0], now_ER[:, 1]
        fast_E, faster_E = now_ER[:, self.velocities + 1], now_ER[:, self.velocities + 2]
        terminated_E = z_E <= 1
        distance_E = 0.01 * x_E**2 + (z_E - 2) ** 2
        speed_E = 1e-3 * fast_E**2 + 5e-3 * faster_E**2
        survive_E = self.healthy_reward * (~terminated_E).astype(np.int64)
        info = {
            "reward_survive": survive_E,
            "distance_penalty": -distance_E,
            "velocity_penalty": -speed_E,
        }
        return Judgement(survive_E - distance_E - speed_E, terminated_E, info)


class Pusher:
    """A row is (qpos and qvel of the arm, places of the tip, the object and the goal)."""

    forces = False

    def __init__(self, bare: Any, models: Sequence[mujoco.MjModel]) -> None:
        del models
        own = vars(bare)
        self.near_weight = own["_reward_near_weight"]
        self.distance_weight = own["_reward_dist_weight"]
        self.cost_weight = own["_reward_control_weight"]

    def parts(self, data: mujoco.MjData) -> Sequence[Array]:
        places = (data.body(name).xpos for name in ("tips_arm", "object", "goal"))
        return data.qpos[:7], data.qvel[:7], *places

    def observe(self, rows_ER: Array) -> Array:
        return rows_ER.copy()

    def judge(self, before_ER: Array, now_ER: Array, action_EA: NDArray[Any]) -> Judgement:
        del before_ER
        tip_E3, object_E3, goal_E3 = now_ER[:, -9:-6], now_ER[:, -6:-3], now_ER[:, -3:]
        near_E = -length(object_E3 - tip_E3) * self.near_weight
        distance_E = -length(object_E3 - goal_E3) * self.distance_weight
        cost_E = control_cost(-self.cost_weight, action_EA)
        info = {"reward_dist": distance_E, "reward_ctrl": cost_E, "reward_near": near_E}
        return Judgement(distance_E + cost_E + near_E, never(now_ER), info)


class Reacher:
    """A row is (qpos, qvel of the arm, places of the finger's tip and of the target)."""

    forces = False

    def __init__(self, bare: Any, models: Sequence[mujoco.MjModel]) -> None:
        del models
        own = vars(bare)
        self.distance_weight = own["_reward_dist_weight"]
        self.cost_weight = own["_reward_control_weight"]

    def parts(self, data: mujoco.MjData) -> Sequence[Array]:
        places = (data.body(name).xpos for name in ("fingertip", "target"))
        return data.qpos, data.qvel[:2], *places

    def observe(self, rows_ER: Array) -> Array:
        # Contiguous: NumPy's sine of other arrays may differ in the last bit.
        angle_E2 = rows_ER[:, :2].copy()
        away_E2 = rows_ER[:, -6:-4] - rows_ER[:, -3:-1]
        parts = np.cos(angle_E2), np.sin(angle_E2), rows_ER[:, 2:-6], away_E2
        return np.concatenate(parts, axis=1)

    def judge(self, before_ER: Array, now_ER: Array, action_EA: NDArray[Any]) -> Judgement:
        del before_ER
        distance_E = -length(now_ER[:, -6:-3] - now_ER[:, -3:]) * self.distance_weight
        cost_E = control_cost(-self.cost_weight, action_EA)
        info = {"reward_dist": distance_E, "reward_ctrl": cost_E}
        return Judgement(distance_E + cost_E, never(now_ER), info)
