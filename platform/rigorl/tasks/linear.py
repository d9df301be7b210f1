"""Linear systems with quadratic cost, of which everything can be known (`analysis/lq.py`).

x+ = A x + B u + D (d + noise), and each step earns -(x'Qx + u'Ru), x being the state before it.
d is what is pushed: nothing, unless somebody does.

Discounted by gamma, it is the undiscounted problem of A, B and D times sqrt(gamma), whose states
are these times gamma^(t/2). So who wants a learner that discounts to solve the undiscounted
problem of some A, B and D writes these over sqrt(gamma).
"""

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from numpy.typing import ArrayLike

from rigorl.tasks.systems import Array, Law, Systems
from rigorl.tasks.world import DIVERGED

ENTRY = "rigorl.tasks.linear:LinearQuadratic"
gym.register("rigorl/LinearQuadratic-v0", ENTRY)


class LinearQuadratic(gym.Env[Array, Array]):
    """One system. It begins at a normal state of deviation *start*, and *noise* is that of w.

    An episode is truncated after so many *steps*. No number of a state goes beyond *bound*: there
    it stays and pays, for with a newborn policy the loop may be unstable, and to end the episode
    would spare it what is to come. States are told in float64, as MuJoCo's are: what is learned is
    compared with what is exact. Actions have no bounds.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        A: ArrayLike,
        B: ArrayLike,
        D: ArrayLike,
        Q: ArrayLike,
        R: ArrayLike,
        *,
        noise: float = 0.0,
        start: float = 0.0,
        steps: int = 200,
        bound: float = 1e3,
    ) -> None:
        for name, value in (("noise", noise), ("start", start)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a deviation, finite, but is {value}")
        if not bound > 0:
            raise ValueError(f"bound must be above 0, but is {bound}")
        if steps < 1 or steps % 1:
            raise ValueError(f"steps must be a whole number, 1 at least, but is {steps}")
        self.law, self.noise, self.start = Law(A, B, D, Q, R), float(noise), float(start)
        self.steps, self.bound, self.forces = steps, float(bound), self.law.forces
        self.observation_space = Box(-np.inf, np.inf, (self.law.states,), np.float64)
        self.action_space = Box(-np.inf, np.inf, (self.law.actions,), np.float32)
        self._alone = Systems(self, 1, autoreset_mode=AutoresetMode.DISABLED)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        del options
        x_EN, _ = self._alone.reset(seed=[seed])
        return x_EN[0], {}

    def push(self, force_F: ArrayLike) -> None:
        """Let a force act in the next step, and no longer; a reset forgets it."""
        self._alone.push(np.asarray(force_F, np.float64)[None])

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        x_EN, reward_E, _, truncated_E, info = self._alone.step(np.asarray(action)[None])
        told = {DIVERGED: True} if DIVERGED in info else {}
        return x_EN[0], float(reward_E[0]), False, bool(truncated_E[0]), told
