"""Robots that feel their contacts: Ant and Humanoid, v5 of Gymnasium.

Shapes as in `robot.py`; B bodies, C numbers of `cfrc_ext` (six a body, the world first).
"""

from collections.abc import Sequence
from typing import Any

import mujoco  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from rigorl.tasks.robots.robot import Array, Judgement, control_cost, control_intervals, never
from rigorl.tasks.robots.runners import where

WORLD = 6
"""The first numbers of `cfrc_ext` are the world's: they have a cost, but are not observed."""


class Ant:
    """A row is (xy of the main body, qpos, qvel, cfrc_ext)."""

    forces = True

    def __init__(self, bare: Any, models: Sequence[mujoco.MjModel]) -> None:
        own = vars(bare)
        self.hidden = 2 * bool(own["_exclude_current_positions_from_observation"])
        self.feels = bool(own["_include_cfrc_ext_in_observation"])
        self.speed_weight = own["_forward_reward_weight"]
        self.cost_weight = own["_ctrl_cost_weight"]
        self.contact_weight = own["_contact_cost_weight"]
        self.contact_range = own["_contact_force_range"]
        self.healthy_reward = own["_healthy_reward"]
        self.healthy_z = own["_healthy_z_range"]
        self.may_fall = own["_terminate_when_unhealthy"]
        self.main = bare.data.body(own["_main_body"]).id
        self.contacts = 2 + bare.model.nq + bare.model.nv
        self.dt_E1 = control_intervals(bare, models)[:, None]

    def parts(self, data: mujoco.MjData) -> Sequence[Array]:
        return data.xpos[self.main, :2], data.qpos, data.qvel, data.cfrc_ext.reshape(-1)

    def _contacts(self, rows_ER: Array) -> Array:
        return rows_ER[:, self.contacts :].clip(*self.contact_range)

    def observe(self, rows_ER: Array) -> Array:
        state_EV = rows_ER[:, 2 + self.hidden : self.contacts]
        if not self.feels:
            return state_EV.copy()
        return np.concatenate((state_EV, self._contacts(rows_ER)[:, WORLD:]), axis=1)

    def judge(self, before_ER: Array, now_ER: Array, action_EA: NDArray[Any]) -> Judgement:
        velocity_E2 = (now_ER[:, :2] - before_ER[:, :2]) / self.dt_E1
        forward_E = velocity_E2[:, 0] * self.speed_weight
        low, high = self.healthy_z
        z_E = now_ER[:, 4]
        healthy_E = (low <= z_E) & (z_E <= high)
        survive_E = healthy_E * self.healthy_reward
        cost_E = control_cost(self.cost_weight, action_EA)
        contact_E = control_cost(self.contact_weight, self._contacts(now_ER))
        info = where(now_ER[:, 2:4], velocity_E2) | {
            "reward_forward": forward_E,
            "reward_ctrl": -cost_E,
            "reward_contact": -contact_E,
            "reward_survive": survive_E,
        }
        terminated_E = ~healthy_E if self.may_fall else never(now_ER)
        return Judgement(forward_E + survive_E - (cost_E + contact_E), terminated_E, info)


class Humanoid:
    """A row is (qpos, qvel, what else is observed, cfrc_ext, tendons, xipos)."""

    forces = True

    def __init__(self, bare: Any, models: Sequence[mujoco.MjModel]) -> None:
        own = vars(bare)
        self.hidden = 2 * bool(own["_exclude_current_positions_from_observation"])
        # Gymnasium asks for `is True`.
        self.inertias, self.velocities, self.actuators, self.feels = (
            own[f"_include_{name}_in_observation"] is True
            for name in ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")
        )
        self.speed_weight = own["_forward_reward_weight"]
        self.cost_weight = own["_ctrl_cost_weight"]
        self.contact_weight = own["_contact_cost_weight"]
        self.contact_range = own["_contact_cost_range"]
        self.healthy_reward = own["_healthy_reward"]
        self.healthy_z = own["_healthy_z_range"]
        self.may_fall = own["_terminate_when_unhealthy"]
        self.dt_E1 = control_intervals(bare, models)[:, None]
        self.masses = [model.body_mass for model in models]  # views: masses may vary
        sizes = [part.size for part in self.parts(bare.data)]
        ends = np.cumsum(sizes)
        contacts, *self.tendons, places = (
            slice(int(end) - size, int(end))
            for end, size in zip(ends[-4:], sizes[-4:], strict=True)
        )
        self.contacts, self.places = contacts, places
        self.seen = contacts.start, contacts.start + WORLD, contacts.stop

    def parts(self, data: mujoco.MjData) -> Sequence[Array]:
        inertias, velocities = data.cinert[1:].reshape(-1), data.cvel[1:].reshape(-1)
        contacts = data.cfrc_ext.reshape(-1)
        return (
            data.qpos,
            data.qvel,
            *[inertias] * self.inertias,
            *[velocities] * self.velocities,
            *[data.qfrc_actuator[6:]] * self.actuators,
            contacts,
            data.ten_length,
            data.ten_velocity,
            data.xipos.reshape(-1),
        )

    def observe(self, rows_ER: Array) -> Array:
        end, start, stop = self.seen
        state_EV = rows_ER[:, self.hidden : end]
        if not self.feels:
            return state_EV.copy()
        return np.concatenate((state_EV, rows_ER[:, start:stop]), axis=1)

    def judge(self, before_ER: Array, now_ER: Array, action_EA: NDArray[Any]) -> Judgement:
        mass_EB = np.stack(self.masses)
        way_EB3 = (now_ER[:, self.places] - before_ER[:, self.places]).reshape(*mass_EB.shape, 3)
        # Of the centre of mass.
        share_EB = mass_EB / mass_EB.sum(axis=1, keepdims=True)
        velocity_E2 = np.einsum("eb,ebj->ej", share_EB, way_EB3[:, :, :2]) / self.dt_E1
        forward_E = self.speed_weight * velocity_E2[:, 0]
        low, high = self.healthy_z
        z_E = now_ER[:, 2]
        healthy_E = (low < z_E) & (z_E < high)
        survive_E = healthy_E * self.healthy_reward
        cost_E = control_cost(self.cost_weight, action_EA.astype(np.float64))  # of `data.ctrl`
        contact_E = control_cost(self.contact_weight, now_ER[:, self.contacts])
        contact_E = contact_E.clip(*self.contact_range)
        lengths, velocities = self.tendons
        info = where(now_ER[:, :2], velocity_E2) | {
            "tendon_length": now_ER[:, lengths].copy(),
            "tendon_velocity": now_ER[:, velocities].copy(),
            "reward_survive": survive_E,
            "reward_forward": forward_E,
            "reward_ctrl": -cost_E,
            "reward_contact": -contact_E,
        }
        terminated_E = ~healthy_E if self.may_fall else never(now_ER)
        return Judgement(forward_E + survive_E - (cost_E + contact_E), terminated_E, info)
