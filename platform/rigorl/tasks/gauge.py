"""What disturbances do to episodes that are played side by side, and what they cost.

Shapes: E episodes, F numbers of a disturbance.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rigorl.errors import TrialFailed
from rigorl.ports import PortSpec
from rigorl.tasks.world import Policy, Port, Pusher

Mask = NDArray[np.bool_]
SLACK = 1e-6
"""By so much, for rounding, a force may be above the limit of its port."""


class Strain(NamedTuple):
    """What an episode has borne. `cost` is what its rewards fell short of `best`, fall included.

    `force` is the sum over steps of the norm of what was pushed, `energy` that of its square.
    """

    steps: int
    fell: bool
    cost: float
    force: float
    energy: float


def shortfall(reward_E: NDArray[Any], best: float) -> NDArray[np.float64]:
    """Return cost_E, what each reward lacks to the *best* one: never negative."""
    cost_E: NDArray[np.float64] = np.maximum(best - reward_E, 0.0)
    return cost_E


class Gauge:
    """Reads what becomes of *count* episodes, and pushes them."""

    def __init__(self, spec: PortSpec, port: Port, count: int) -> None:
        self.spec, self.port, self.step = spec, port, 0
        self.alive_E = np.ones(count, np.bool_)
        self.steps_E, self.fell_E = np.zeros(count, np.int64), np.zeros(count, np.bool_)
        self.cost_E, self.force_E, self.energy_E = np.zeros((3, count))
        self._norm_E = np.zeros(count)

    def push(self, policy: Policy, obs: Any) -> None:
        """Let *policy* push, if it does so; *obs* may have more rows than there are episodes."""
        if not isinstance(policy, Pusher):
            return
        force_EF = np.where(self.alive_E[:, None], policy.push(obs)[: len(self.alive_E)], 0.0)
        self._norm_E = np.linalg.norm(force_EF, axis=1)
        if not self._norm_E.max() <= self.port.limit * (1 + SLACK):
            raise TrialFailed(
                f"a force must be at most {self.port.limit:g}, but is {self._norm_E.max():g} at "
                f"step {self.step + 1} of an exam; the disturber has diverged, or pushes too hard"
            )
        self.port.push(force_EF)

    def read(self, reward_E: NDArray[Any], terminated_E: Mask, over_E: Mask) -> None:
        """Take note of a step that all episodes took which were not over before."""
        alive_E, self.step = self.alive_E, self.step + 1
        self.steps_E += alive_E
        self.cost_E += shortfall(reward_E, self.spec.best) * alive_E
        self.force_E += self._norm_E
        self.energy_E += np.square(self._norm_E)
        fell_E = alive_E & terminated_E
        self.cost_E += fell_E * self.spec.fall_cost
        self.fell_E |= fell_E
        self.alive_E = alive_E & ~over_E

    @property
    def strain(self) -> tuple[Strain, ...]:
        rows = self.steps_E, self.fell_E, self.cost_E, self.force_E, self.energy_E
        return tuple(Strain(*row) for row in zip(*(row.tolist() for row in rows), strict=True))


def summary(strain: tuple[Strain, ...]) -> dict[str, float]:
    """Return the means over episodes of what they have borne: of `fell`, the share that fell."""
    columns = zip(Strain._fields, zip(*strain, strict=True), strict=True)
    return {name: float(np.mean(column)) for name, column in columns}
