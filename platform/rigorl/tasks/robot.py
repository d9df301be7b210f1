"""What is asked of a robot: to see and judge a whole batch of simulations at once.

Each robot of `runners.py`, `torsos.py` and `arms.py` does what the class of
its name in Gymnasium does for one environment. Its constants are those of an environment that
was opened with the task's kwargs.

Shapes: E environments, R numbers read of a simulation, D observation, A action.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import mujoco  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Info = dict[str, NDArray[Any]]


class Judgement(NamedTuple):
    """What a step has earned. The arrays of `info` have an environment a row."""

    reward_E: NDArray[Any]
    terminated_E: NDArray[np.bool_]
    info: Info


class Robot(Protocol):
    """All that is known of a simulation after a step is its *row*: the `parts`, end to end."""

    @property
    def forces(self) -> bool:
        """Whether `cfrc_ext` is read, which `mj_step` alone does not compute."""

    def parts(self, data: mujoco.MjData) -> Sequence[Array]:
        """Return what is read of *data*: views of one dimension each."""

    def observe(self, rows_ER: Array) -> Array:
        """Return obs_ED, an array of its own."""

    def judge(self, before_ER: Array, now_ER: Array, action_EA: NDArray[Any]) -> Judgement:
        """Judge the step from *before* to *now*. The rows are finite."""


def control_cost(weight: float, action_EA: NDArray[Any]) -> NDArray[Any]:
    """Return cost_E. Actions of 32 bits have costs of 32 bits, as they have in Gymnasium."""
    cost_E: NDArray[Any] = weight * np.add.reduce(np.square(action_EA), axis=1)
    return cost_E


def length(vector_EV: Array) -> Array:
    """Return the Euclidean length of each row."""
    length_E: Array = np.sqrt(np.add.reduce(np.square(vector_EV), axis=1))
    return length_E


def control_intervals(bare: Any, models: Sequence[mujoco.MjModel]) -> Array:
    """Return dt_E: the simulated seconds between two actions."""
    return np.array([model.opt.timestep * bare.frame_skip for model in models])


def never(rows_ER: Array) -> NDArray[np.bool_]:
    """Return a termination_E for robots that cannot fail."""
    return np.zeros(len(rows_ER), dtype=np.bool_)
