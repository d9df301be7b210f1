"""Many environments with one robot, stepped by threads and judged as one batch.

Shapes: E environments, R numbers read of a simulation (see `robot.py`), D observation,
A action, B bodies.
"""

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import mujoco  # type: ignore[import-untyped]
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rigorl.tasks.robots.known import ROBOTS, time_limit
from rigorl.tasks.robots.robot import Array, Info, Judgement
from rigorl.tasks.robots.simulations import Simulations
from rigorl.tasks.variation import Variation
from rigorl.tasks.world import DIVERGED

Mask = NDArray[np.bool_]
Step = tuple[Array, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]


class BatchedMujoco(VectorEnv[Array, NDArray[Any], NDArray[Any]]):
    """What a `SyncVectorEnv` of such environments is, but faster, and it can be pushed.

    `env` is one that `known.covers`; it is the world's from now on. `models`, one an
    environment, may differ in physics, not in what they are made of; `variations`, one a model,
    draw it anew for each episode. What happens in one environment depends neither on `threads`
    nor on its neighbours, to the bit.

    `autoreset_mode`: with SAME_STEP an episode that ends begins anew in the same step. With
    DISABLED its environment rests: it is not stepped, keeps its observation, and earns 0,
    until it is reset (`options={"reset_mask": mask_E}`).

    A simulation has *diverged* when a position, velocity or acceleration became NaN or huge
    (MuJoCo then begins anew by itself, and goes on), or when a reward is not finite. The step
    is not believed: it earns 0, leads to the observation before it, ends the episode as
    `truncated`, and has nothing to say in `info` or `final_info` but `info[DIVERGED]`, a mask
    that no other step has.
    """

    closed = True  # until it is open: Gymnasium closes what was made by half

    def __init__(
        self,
        env: gym.Env[Any, Any],
        num_envs: int,
        *,
        threads: int = 1,
        models: Sequence[mujoco.MjModel] | None = None,
        variations: Sequence[Variation] = (),
        autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
    ) -> None:
        if autoreset_mode is AutoresetMode.NEXT_STEP:
            raise ValueError("autoreset_mode must be SAME_STEP or DISABLED, but is NEXT_STEP")
        bare: Any = env.unwrapped
        models = [bare.model] * num_envs if models is None else list(models)
        if len(models) != num_envs:
            raise ValueError(f"models must be {num_envs}, but are {len(models)}")
        self.num_envs = num_envs
        self.metadata = {**env.metadata, "autoreset_mode": autoreset_mode}
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        self.observation_space = batch_space(env.observation_space, num_envs)
        self.action_space = batch_space(env.action_space, num_envs)
        self.models, self.model = models, bare.model
        """Of each environment; and what they were before any of them varied."""
        self.limit = time_limit(env) or math.inf
        self._robot = ROBOTS[type(bare)](bare, models)
        self._simulations = Simulations(bare, models, variations, self._robot, threads)
        self.closed = False
        self._rows_ER: Array | None = None
        self._all_E = np.ones(num_envs, dtype=np.bool_)
        self._elapsed_E = np.zeros(num_envs, dtype=np.int64)
        self._rests = autoreset_mode is AutoresetMode.DISABLED
        self._resting: set[int] = set()

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
        elif seed is None:
            seed = [None] * self.num_envs
        if len(seed) != self.num_envs:
            raise ValueError(f"seeds must be {self.num_envs}, but are {len(seed)}")
        options = dict(options or {})
        mask_E = self._checked(options.pop("reset_mask", None))
        if self._rows_ER is None:
            self._rows_ER = self._simulations.blank()
        info: dict[str, Any] = {}
        for i in np.flatnonzero(mask_E).tolist():
            told = self._simulations.begin(i, self._rows_ER, seed[i], options)
            info = self._add_info(info, told, i)
            self._resting.discard(i)
        self._elapsed_E[mask_E] = 0
        return self._robot.observe(self._rows_ER), info

    def _checked(self, mask_E: Mask | None) -> Mask:
        if mask_E is None:
            return self._all_E
        if mask_E.shape != (self.num_envs,) or mask_E.dtype != np.bool_ or not mask_E.any():
            raise ValueError(
                f"reset_mask must be {self.num_envs} bools, one of them true, but is {mask_E!r}"
            )
        if self._rows_ER is None and not mask_E.all():
            raise ResetNeeded("all environments must be reset before some of them are")
        return mask_E

    def push(self, wrench_EB6: Array) -> None:
        """Let forces act on bodies throughout the next step, and no longer.

        Force (N), then torque (N m), at each body's centre of mass and in the world's frame.
        Body 0 is the world. What was pushed before, for the same step, is forgotten; so is
        what was pushed in an environment that is reset or rests.
        """
        self._simulations.push(wrench_EB6)

    @property
    def datas(self) -> Sequence[mujoco.MjData]:
        """The simulation of each environment."""
        return self._simulations.datas

    def turned(self, bodies: Sequence[int]) -> Array:
        """Return turn_EN33: what turns a vector from the frame of each body to the world's."""
        return self._simulations.turned(bodies)

    def step(self, actions: Any) -> Step:
        """Step all environments but those that rest.

        Actions are not clipped: MuJoCo clamps its controls, and costs are of what was asked.
        """
        before_ER, action_EA = self._rows_ER, np.asarray(actions)
        if before_ER is None:
            raise ResetNeeded("environments must be reset before they are stepped")
        if action_EA.shape != self.action_space.shape:
            raise ValueError(
                f"actions must be {self.action_space.shape}, but are {action_EA.shape}"
            )
        now_ER = self._simulations.step(before_ER, action_EA, self._resting)
        lost_E = self._simulations.lost(now_ER, self._resting)
        if lost_E is not None:
            now_ER[lost_E] = before_ER[lost_E]
        judged = self._robot.judge(before_ER, now_ER, action_EA)
        if not math.isfinite(np.vdot(judged.reward_E, judged.reward_E)):
            odd_E = ~np.isfinite(judged.reward_E)
            now_ER[odd_E] = before_ER[odd_E]
            lost_E = odd_E if lost_E is None else lost_E | odd_E
        self._rows_ER = now_ER
        self._elapsed_E += 1
        obs_ED, late_E = self._robot.observe(now_ER), self._elapsed_E >= self.limit
        if lost_E is not None or self._resting or _any(late_E) or _any(judged.terminated_E):
            return self._settle(obs_ED, judged, late_E, lost_E)
        info: dict[str, Any] = dict(judged.info)
        for key in judged.info:
            info[f"_{key}"] = self._all_E.copy()
        return obs_ED, judged.reward_E, judged.terminated_E, late_E, info

    def _settle(self, obs_ED: Array, judged: Judgement, late_E: Mask, lost_E: Mask | None) -> Step:
        """End the episodes that are over, and begin others."""
        lost_E = np.zeros(self.num_envs, dtype=np.bool_) if lost_E is None else lost_E
        awake_E = self._all_E.copy()
        awake_E[list(self._resting)] = False
        believed_E = awake_E & ~lost_E
        reward_E = np.where(believed_E, judged.reward_E, 0.0)
        terminated_E = judged.terminated_E & believed_E
        truncated_E = (late_E | lost_E) & awake_E
        over_E = terminated_E | truncated_E
        if self._rests:
            info = _told_of(believed_E, judged.info)
            self._resting.update(np.flatnonzero(over_E).tolist())
        else:
            info = _told_of(believed_E & ~over_E, judged.info)
            if over_E.any():
                final = _told_of(believed_E & over_E, judged.info)
                info |= {"final_info": final, "_final_info": over_E.copy()}
                info = self._begin_anew(obs_ED, over_E, info)
        if lost_E.any():
            info |= {DIVERGED: lost_E, f"_{DIVERGED}": lost_E.copy()}
        return obs_ED, reward_E, terminated_E, truncated_E, info

    def _begin_anew(self, obs_ED: Array, over_E: Mask, info: dict[str, Any]) -> dict[str, Any]:
        """Begin episodes where one is over, and return *info* with what they say."""
        final_E = np.full(self.num_envs, None, dtype=object)
        rows_ER: Any = self._rows_ER
        for i in np.flatnonzero(over_E).tolist():
            final_E[i] = obs_ED[i].copy()
            info = self._add_info(info, self._simulations.begin(i, rows_ER), i)
        self._elapsed_E[over_E] = 0
        obs_ED[over_E] = self._robot.observe(rows_ER)[over_E]
        return info | {"final_obs": final_E, "_final_obs": over_E.copy()}

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The random stream of each environment."""
        return tuple(self._simulations.luck(i)[0] for i in range(self.num_envs))

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """What the stream of each environment was seeded with; -1 where that is not known."""
        return tuple(self._simulations.luck(i)[1] for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """End the threads."""
        del kwargs
        self._simulations.close()


def _any(mask_E: Mask) -> bool:
    return True in mask_E.tolist()  # ten times as fast as `mask_E.any()`


def _told_of(these_E: Mask, info: Info) -> dict[str, Any]:
    """Return *info* of these environments, and 0 of others, in Gymnasium's format."""
    told: dict[str, Any] = {}
    if _any(these_E):
        for key, value_E in info.items():
            told[key] = value_E.copy()
            told[key][~these_E] = 0
            told[f"_{key}"] = these_E.copy()
    return told
