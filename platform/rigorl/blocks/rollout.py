"""What an on-policy learner has just lived through."""

from collections import deque
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

A = TypeVar("A")
"""Arrays or tensors."""


class Batch(NamedTuple, Generic[A]):
    """Steps to learn from, in any order. `action` is (B, A), or (B,) of a choice."""

    obs_BD: A
    action: A
    log_prob_B: A
    advantage_B: A
    return_B: A


class Rollout:
    """Room for T steps of E environments. `after_TE` is the value of the state in which an
    episode ended: 0 if it was terminal, its own value if time was up.
    """

    def __init__(self, obs_TED: NDArray[Any], action_TE: NDArray[Any]) -> None:
        self.obs_TED, self.action_TE = obs_TED, action_TE
        shape = obs_TED.shape[:2]
        self.reward_TE = np.zeros(shape, np.float32)
        self.done_TE = np.zeros(shape, np.bool_)
        self.after_TE = np.zeros(shape, np.float32)

    def advantages(
        self, value_TE: NDArray[Any], last_E: NDArray[Any], discount: float, trace: float
    ) -> NDArray[Any]:
        """Return advantage_TE, given the values of the states acted in and of those at last."""
        next_TE = np.concatenate([value_TE[1:], last_E[None]])
        next_TE = np.where(self.done_TE, self.after_TE, next_TE)
        return gae(self.reward_TE, value_TE, next_TE, self.done_TE, discount=discount, trace=trace)


def gae(
    reward_TE: NDArray[Any],
    value_TE: NDArray[Any],
    next_value_TE: NDArray[Any],
    done_TE: NDArray[np.bool_],
    *,
    discount: float,
    trace: float,
) -> NDArray[Any]:
    """Return the advantages of generalised advantage estimation.

    `next_value_TE` is the value of the state that each step led to, 0 if it was terminal.
    Schulman et al. 2016, equation 16.
    """
    delta_TE = reward_TE + discount * next_value_TE - value_TE
    keep_TE = discount * trace * ~done_TE
    advantage_TE: NDArray[Any] = np.empty_like(delta_TE)
    later_E = np.zeros_like(delta_TE[0])
    for t in reversed(range(len(delta_TE))):
        later_E = delta_TE[t] + keep_TE[t] * later_E
        advantage_TE[t] = later_E
    return advantage_TE


def minibatches(batch: Batch[A], size: int, order_B: Any) -> Iterator[Batch[A]]:
    """Yield the rows of *batch* in the order *order_B*, *size* at a time; the last may be fewer."""
    rows_of: tuple[Any, ...] = batch
    ordered = [rows[order_B] for rows in rows_of]
    for start in range(0, len(order_B), size):
        yield Batch(*(rows[start : start + size] for rows in ordered))


class Episodes:
    """Returns of the last hundred episodes that ended, as the environments paid them."""

    def __init__(self, num_envs: int) -> None:
        self.sum_E = np.zeros(num_envs)
        self.returns: deque[float] = deque(maxlen=100)

    def add(self, reward_E: NDArray[Any], done_E: NDArray[np.bool_]) -> None:
        self.sum_E += reward_E
        if done_E.any():
            self.returns.extend(self.sum_E[done_E].tolist())
            self.sum_E[done_E] = 0.0

    def summary(self) -> dict[str, float]:
        """Return their mean, once there is one."""
        return {"train/return": float(np.mean(self.returns))} if self.returns else {}
