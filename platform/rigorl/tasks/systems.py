"""Many linear systems of one kind, stepped as a batch.

Shapes: E environments, N numbers of a state, M of an action, F of a force, A steps ahead.
"""

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from rigorl.tasks.robots.known import time_limit
from rigorl.tasks.world import DIVERGED

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Step = tuple[Array, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]
AHEAD = 256
"""Steps for which noise is drawn at once."""
ROUNDING = 1e-12


class Law:
    """What becomes of states, and what it costs: for any number of them, to the bit the same.

    Numbers are added one column after the other, and not by BLAS, whose order depends on how
    many rows there are.
    """

    def __init__(
        self, A: ArrayLike, B: ArrayLike, D: ArrayLike, Q: ArrayLike, R: ArrayLike
    ) -> None:
        given = {"A": A, "B": B, "D": D, "Q": Q, "R": R}
        A, B, D, Q, R = (_matrix(name, values) for name, values in given.items())
        n, m = len(A), B.shape[1]
        self.states, self.actions, self.forces = n, m, D.shape[1]
        sizes = {"A": (n, n), "B": (n, m), "D": (n, self.forces), "Q": (n, n), "R": (m, m)}
        for (name, size), M in zip(sizes.items(), (A, B, D, Q, R), strict=True):
            if M.shape != size:
                raise ValueError(
                    f"{name} must be {_size(size)} where A is {_size(A.shape)} and B is "
                    f"{_size(B.shape)}, but is {_size(M.shape)}"
                )
        cost = np.zeros((n + m, n + m + self.forces))
        cost[:n, :n], cost[n:, n : n + m] = _root("Q", Q), _root("R", R)
        self._columns = np.ascontiguousarray(np.vstack([np.hstack([A, B, D]), cost]).T)

    def __call__(self, x_EN: Array, u_EM: Array, w_EF: Array) -> tuple[Array, Array]:
        """Return the states that follow, and what the step earns."""
        told = np.concatenate([x_EN, u_EM, w_EF], axis=1)
        both = told[:, :1] * self._columns[0]
        for i in range(1, len(self._columns)):
            both += told[:, i : i + 1] * self._columns[i]
        z = np.square(both[:, self.states :])
        cost_E = z[:, 0].copy()
        for i in range(1, z.shape[1]):
            cost_E += z[:, i]
        return both[:, : self.states].copy(), -cost_E


class Luck:
    """The noise of each environment, from a stream of its own, and where its states begin."""

    def __init__(self, count: int, states: int, forces: int, start: float, noise: float) -> None:
        self.streams: list[tuple[np.random.Generator, int] | None] = [None] * count
        self._states, self._start, self._noise = states, start, noise
        self._ahead_EAF = np.zeros((count, AHEAD, forces))
        self._at_E, self._all_E = np.zeros(count, np.int64), np.arange(count)

    def begin(self, i: int, seed: int | None) -> Array:
        """Return x_N, where an episode of environment *i* begins."""
        if seed is not None:
            self.streams[i] = seeding.np_random(seed)
        x_N: Array = self._start * self.stream(i).standard_normal(self._states)
        if self._noise:
            self._draw(i)
        return x_N

    def stream(self, i: int) -> np.random.Generator:
        """Return the random stream of environment *i*."""
        known = self.streams[i] = self.streams[i] or seeding.np_random()
        return known[0]

    def next(self, awake_E: Mask) -> Array:
        """Return w_EF of a step that these environments take; of others it says nothing."""
        if not self._noise:
            return self._ahead_EAF[:, 0]
        if self._at_E.max() == AHEAD:
            for i in np.flatnonzero(self._at_E == AHEAD).tolist():
                self._draw(i)
        w_EF: Array = self._ahead_EAF[self._all_E, self._at_E]
        self._at_E += awake_E
        return w_EF

    def _draw(self, i: int) -> None:
        self.stream(i).standard_normal(out=self._ahead_EAF[i])
        self._ahead_EAF[i] *= self._noise
        self._at_E[i] = 0


class Systems(VectorEnv[Array, NDArray[Any], NDArray[Any]]):
    """What a `SyncVectorEnv` of such environments is, but faster, and it can be pushed.

    `env` is a `LinearQuadratic`, in Gymnasium's wrappers or not. What happens in one environment
    does not depend on its neighbours, to the bit. `autoreset_mode` and what counts as diverged
    are as in `robots/batched.py`: a step to what is not finite is not believed.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        num_envs: int,
        *,
        autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
    ) -> None:
        if autoreset_mode is AutoresetMode.NEXT_STEP:
            raise ValueError("autoreset_mode must be SAME_STEP or DISABLED, but is NEXT_STEP")
        bare: Any = env.unwrapped
        self.num_envs, self.forces = num_envs, bare.forces
        self.metadata = {**bare.metadata, "autoreset_mode": autoreset_mode}
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        self.observation_space = batch_space(env.observation_space, num_envs)
        self.action_space = batch_space(env.action_space, num_envs)
        self.limit = min(bare.steps, time_limit(env) or math.inf)
        self._law, self._bound = bare.law, bare.bound
        self._luck = Luck(num_envs, bare.law.states, bare.forces, bare.start, bare.noise)
        self._x_EN: Array | None = None
        self._push_EF = np.zeros((num_envs, bare.forces))
        self._elapsed_E = np.zeros(num_envs, np.int64)
        self._awake_E = np.ones(num_envs, np.bool_)
        self._rests = autoreset_mode is AutoresetMode.DISABLED

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Begin new episodes, in all environments or those of `options["reset_mask"]`.

        A number seeds the first environment; the next one has the next.
        """
        if isinstance(seed, int):
            seed = range(seed, seed + self.num_envs)
        seeds = [None] * self.num_envs if seed is None else list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"seeds must be {self.num_envs}, but are {len(seeds)}")
        mask_E = self._checked((options or {}).get("reset_mask"))
        if self._x_EN is None:
            self._x_EN = np.zeros((self.num_envs, self._law.states))
        for i in np.flatnonzero(mask_E).tolist():
            self._x_EN[i] = self._luck.begin(i, seeds[i])
        self._elapsed_E[mask_E], self._push_EF[mask_E] = 0, 0.0
        self._awake_E |= mask_E
        return self._x_EN.copy(), {}

    def _checked(self, mask_E: Mask | None) -> Mask:
        if mask_E is None:
            return np.ones(self.num_envs, np.bool_)
        if mask_E.shape != (self.num_envs,) or mask_E.dtype != np.bool_ or not mask_E.any():
            raise ValueError(
                f"reset_mask must be {self.num_envs} bools, one of them true, but is {mask_E!r}"
            )
        if self._x_EN is None and not mask_E.all():
            raise ResetNeeded("all environments must be reset before some of them are")
        return mask_E

    def push(self, force_EF: NDArray[Any]) -> None:
        """Let forces act in the next step, and no longer; a reset forgets them."""
        if np.shape(force_EF) != self._push_EF.shape:
            raise ValueError(f"force_EF must be {self._push_EF.shape}, but is {np.shape(force_EF)}")
        self._push_EF = np.array(force_EF, np.float64)

    def step(self, actions: Any) -> Step:
        """Step all environments but those that rest."""
        before_EN, u_EM = self._x_EN, np.asarray(actions, np.float64)
        if before_EN is None:
            raise ResetNeeded("environments must be reset before they are stepped")
        if u_EM.shape != self.action_space.shape:
            raise ValueError(f"actions must be {self.action_space.shape}, but are {u_EM.shape}")
        w_EF = self._luck.next(self._awake_E) + self._push_EF
        with np.errstate(over="ignore", invalid="ignore"):
            x_EN, reward_E = self._law(before_EN, u_EM, w_EF)
            lost_E = ~np.isfinite(x_EN.sum(1) + reward_E)
        np.clip(x_EN, -self._bound, self._bound, out=x_EN)
        self._elapsed_E += 1
        self._push_EF[:] = 0.0
        truncated_E: Mask = lost_E | (self._elapsed_E >= self.limit)
        terminated_E = np.zeros(self.num_envs, np.bool_)
        self._x_EN, info = x_EN, {}
        if self._rests or truncated_E.any():
            info = self._settle(before_EN, reward_E, truncated_E, lost_E)
        return x_EN.copy(), reward_E, terminated_E, truncated_E, info

    def _settle(
        self, before_EN: Array, reward_E: Array, truncated_E: Mask, lost_E: Mask
    ) -> dict[str, Any]:
        """Mend the states and what was told of them, and begin anew where an episode is over."""
        x_EN: Any = self._x_EN
        kept_E = lost_E | ~self._awake_E
        x_EN[kept_E], reward_E[kept_E] = before_EN[kept_E], 0.0
        truncated_E &= self._awake_E
        lost_E &= self._awake_E
        info: dict[str, Any] = {}
        if self._rests:
            self._awake_E &= ~truncated_E
        elif truncated_E.any():
            final_E = np.full(self.num_envs, None, dtype=object)
            for i in np.flatnonzero(truncated_E).tolist():
                final_E[i] = x_EN[i].copy()
                x_EN[i] = self._luck.begin(i, None)
            self._elapsed_E[truncated_E] = 0
            info = {"final_obs": final_E, "_final_obs": truncated_E.copy()}
            info |= {"final_info": {}, "_final_info": truncated_E.copy()}
        if lost_E.any():
            info |= {DIVERGED: lost_E, f"_{DIVERGED}": lost_E.copy()}
        return info


def _matrix(name: str, values: Any) -> Array:
    try:
        M = np.array(values, np.float64)
    except (TypeError, ValueError):
        M = np.zeros(0)
    if M.ndim not in {0, 2} or not M.size or not np.isfinite(M).all():
        law = f"{name} must be a number, or a list of rows of numbers, all finite"
        column = "; a column is written [[0.1], [1]]" if M.ndim == 1 and M.size else ""
        raise ValueError(f"{law}, but is {values}{column}")
    return M.reshape(1, 1) if M.ndim == 0 else M


def _root(name: str, M: Array) -> Array:
    """Return what has M as its square; refuse an M that no cost can have."""
    worth, turn = np.linalg.eigh((M + M.T) / 2)
    slack = ROUNDING * np.abs(worth).max()
    positive = worth[0] >= -slack if name == "Q" else worth[0] > slack
    if not (positive and np.allclose(M, M.T)):
        law = "positive semidefinite" if name == "Q" else "positive definite"
        raise ValueError(f"{name} must be symmetric and {law}, but is {M.tolist()}")
    root: Array = np.sqrt(np.maximum(worth, 0.0))[:, None] * turn.T
    return root


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
