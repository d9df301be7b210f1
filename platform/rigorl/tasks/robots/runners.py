"""Robots in a plane: HalfCheetah, Swimmer, Hopper and Walker2d, v5 of Gymnasium.

Shapes as in `robot.py`. A row is (qpos, qvel).
"""

from collections.abc import Sequence
from typing import Any

import mujoco  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from rigorl.tasks.robots.robot import (
    Array,
    Info,
    Judgement,
    control_cost,
    control_intervals,
    never,
)


def _state(data: mujoco.MjData) -> tuple[Array, Array]:
    return data.qpos, data.qvel


class HalfCheetah:
    forces = False
    parts = staticmethod(_state)

    def __init__(self, bare: Any, models: Sequence[mujoco.MjModel]) -> None:
        own = vars(bare)
        self.hidden = int(bool(own["_exclude_current_positions_from_observation"]))
        self.speed_weight = own["_forward_reward_weight"]
        self.cost_weight = own["_ctrl_cost_weight"]
        self.dt_E = control_intervals(bare, models)

    def observe(self, rows_ER: Array) -> Array:
        return rows_ER[:, self.hidden :].copy()

    def judge(self, before_ER: Array, now_ER: Array, action_EA: NDArray[Any]) -> Judgement:
        x_E = now_ER[:, 0].copy()
        speed_E = (x_E - before_ER[:, 0]) / self.dt_E
        forward_E = self.speed_weight * speed_E
        cost_E = control_cost(self.cost_weight, action_EA)
        info = {
            "x_position": x_E,
            "x_velocity": speed_E,
            "reward_forward": forward_E,
            "reward_ctrl": -cost_E,
        }
        return Judgement(forward_E - cost_E, never(now_ER), info)


class Swimmer:
    forces = False
    parts = staticmethod(_state)

    def __init__(self, bare: Any, models: Sequence[mujoco.MjModel]) -> None:
        own = vars(bare)
        self.hidden = 2 * bool(own["_exclude_current_positions_from_observation"])
        self.speed_weight = own["_forward_reward_weight"]
        self.cost_weight = own["_ctrl_cost_weight"]
        self.dt_E1 = control_intervals(bare, models)[:, None]

    def observe(self, rows_ER: Array) -> Array:
        return rows_ER[:, self.hidden :].copy()

    def judge(self, before_ER: Array, now_ER: Array, action_EA: NDArray[Any]) -> Judgement:
        xy_E2 = now_ER[:, :2]
        velocity_E2 = (xy_E2 - before_ER[:, :2]) / self.dt_E1
        forward_E = self.speed_weight * velocity_E2[:, 0]
        cost_E = control_cost(self.cost_weight, action_EA)
        info = where(xy_E2, velocity_E2) | {"reward_forward": forward_E, "reward_ctrl": -cost_E}
        return Judgement(forward_E - cost_E, never(now_ER), info)


def where(xy_E2: Array, velocity_E2: Array) -> Info:
    """Return what `info` says of the place of a robot that moves in two directions."""
    x_E, y_E = xy_E2[:, 0].copy(), xy_E2[:, 1].copy()
    return {
        "x_position": x_E,
        "y_position": y_E,
        "distance_from_origin": np.sqrt(x_E * x_E + y_E * y_E),
        "x_velocity": velocity_E2[:, 0],
        "y_velocity": velocity_E2[:, 1],
    }


class Legs:
    """Hopper and Walker2d: alike, but for what they call healthy."""

    forces = False
    parts = staticmethod(_state)

    def __init__(self, bare: Any, models: Sequence[mujoco.MjModel]) -> None:
        own = vars(bare)
        self.hidden = int(bool(own["_exclude_current_positions_from_observation"]))
        self.speed_weight = own["_forward_reward_weight"]
        self.cost_weight = own["_ctrl_cost_weight"]
        self.healthy_reward = own["_healthy_reward"]
        self.may_fall = own["_terminate_when_unhealthy"]
        self.z_origin = bare.init_qpos[1]
        self.nq = bare.model.nq
        self.dt_E = control_intervals(bare, models)
        self.low_V, self.high_V = np.transpose(_healthy_ranges(own, self.nq + bare.model.nv))

    def observe(self, rows_ER: Array) -> Array:
        obs_ED = rows_ER[:, self.hidden :].copy()
        velocity_EV = obs_ED[:, self.nq - self.hidden :]
        velocity_EV.clip(-10, 10, out=velocity_EV)
        return obs_ED

    def judge(self, before_ER: Array, now_ER: Array, action_EA: NDArray[Any]) -> Judgement:
        x_E = now_ER[:, 0].copy()
        speed_E = (x_E - before_ER[:, 0]) / self.dt_E
        forward_E = self.speed_weight * speed_E
        cost_E = control_cost(self.cost_weight, action_EA)
        watched_EV = now_ER[:, 1 : 1 + len(self.low_V)]
        healthy_EV = (self.low_V < watched_EV) & (watched_EV < self.high_V)
        healthy_E = np.logical_and.reduce(healthy_EV, axis=1)
        survive_E = healthy_E * self.healthy_reward
        info = {
            "x_position": x_E,
            "z_distance_from_origin": now_ER[:, 1] - self.z_origin,
            "x_velocity": speed_E,
            "reward_forward": forward_E,
            "reward_ctrl": -cost_E,
            "reward_survive": survive_E,
        }
        terminated_E = ~healthy_E if self.may_fall else never(now_ER)
        return Judgement(forward_E + survive_E - cost_E, terminated_E, info)


def _healthy_ranges(own: dict[str, Any], size: int) -> list[tuple[float, float]]:
    """Return the open intervals for the row of *size* numbers from z and the angle on."""
    z, angle = own["_healthy_z_range"], own["_healthy_angle_range"]
    if "_healthy_state_range" not in own:
        return [z, angle]
    low, high = own["_healthy_state_range"]  # of all but x and z
    narrowed = (max(low, angle[0]), min(high, angle[1]))
    return [z, narrowed, *[(low, high)] * (size - 3)]
