"""A scalar linear system under attack, and a policy that holds it: what is known in closed form.

x+ = 1.1 x + u + d, reward -(x^2 + u^2), and u = -k x. The worst ratio of cost to force^2 is
(1 + k^2) / (1 - 1.1 + k)^2, and a force that is always the same attains it.
"""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from rigorl.ports import PortSpec
from rigorl.spec import TaskSpec
from rigorl.tasks.world import World, WorldSpec

TASK = TaskSpec(name="scalar", env="Pendulum-v1", port=PortSpec(limit=1.0, best=0.0))
LENGTH = 100


class Holds:
    """Acts by u = -k x; counts how often it is asked, and for how many rows."""

    def __init__(self, k: float) -> None:
        self.k, self.asked = k, list[int]()

    def __call__(self, obs: NDArray[Any]) -> NDArray[Any]:
        self.asked.append(len(obs))
        return np.asarray(-self.k * obs)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Holds":
        return self

    def save(self, folder: Path) -> None:
        (folder / "holds.json").write_bytes(msgspec.json.encode(self.k))


def load_policy(folder: Path) -> Holds:
    return Holds(msgspec.json.decode((folder / "holds.json").read_bytes()))


class Scalars:
    """So many of them, each beginning anew after `LENGTH` steps; their own port, too."""

    def __init__(self, num_envs: int, limit: float = 1.0) -> None:
        self.num_envs, self.limit, self.size = num_envs, limit, 1
        self.x_E = self.force_E = np.zeros(num_envs)
        self.age, self.pushed = 0, list[NDArray[Any]]()

    def push(self, force_EF: NDArray[Any]) -> None:
        self.force_E = force_EF[:, 0].copy()
        self.pushed.append(self.force_E)

    def reset(self) -> tuple[NDArray[Any], dict[str, Any]]:
        self.age, self.x_E = 0, np.linspace(-0.1, 0.1, self.num_envs)
        return self.x_E[:, None], {}

    def step(self, action: NDArray[Any]) -> tuple[Any, ...]:
        u_E, over_E = action[:, 0], np.zeros(self.num_envs, np.bool_)
        reward_E = -(np.square(self.x_E) + np.square(u_E))
        self.x_E = 1.1 * self.x_E + u_E + self.force_E
        self.age += 1
        info: dict[str, Any] = {}
        if self.age == LENGTH:
            info["final_obs"] = np.array([*self.x_E[:, None]])
            over_E[:] = True
            self.reset()
        return self.x_E[:, None], reward_E, np.zeros(self.num_envs, np.bool_), over_E, info


def world(num_envs: int, victim: Any) -> tuple[World, Scalars]:
    envs: Any = Scalars(num_envs)
    return World(TASK, envs, given={"holds": victim}, port=envs), envs


def spec(num_envs: int) -> WorldSpec:
    room = Box(-np.inf, np.inf, (1,))
    return WorldSpec(room, room, num_envs, (TASK,), given=True, forces=1)


def ratio(policy: Any, start: float = 0.01, steps: int = 400) -> float:
    """Return the cost for each unit of force^2 that *policy* comes to."""
    envs = Scalars(1)
    envs.x_E, cost, energy = np.array([start]), 0.0, 0.0
    for _ in range(steps):
        x, force = float(envs.x_E[0]), float(policy.push(envs.x_E[:, None])[0, 0])
        u = float(policy(envs.x_E[:, None])[0, 0])
        cost, energy = cost + x * x + u * u, energy + force * force
        envs.x_E = np.array([1.1 * x + u + force])
    return cost / energy
