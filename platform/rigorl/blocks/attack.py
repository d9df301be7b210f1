"""One attacker: its networks, its luck, and what it has lived through since forces began.

Shapes: T steps of a rollout, E environments, D observation (the strength last), F numbers of a
force, K strengths, B batch.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from rigorl.blocks.actor_critic import Terms, assessed, judged
from rigorl.blocks.actors import GaussianActor
from rigorl.blocks.attacked import seen
from rigorl.blocks.forces import squash
from rigorl.blocks.greedy import GreedyPolicy
from rigorl.blocks.nets import mlp
from rigorl.blocks.normalize import Moments, ObsScale, RewardScale
from rigorl.blocks.rollout import Batch, Rollout, minibatches
from rigorl.blocks.shards import assemble
from rigorl.seeds import integer

Array = NDArray[Any]
KAPPA_LR = 0.2


class Sizes(NamedTuple):
    """Of the networks, and the deviation that pushes begin with (its logarithm)."""

    obs: int
    forces: int
    hidden: tuple[int, ...]
    log_std: float


class Scaling(NamedTuple):
    """Whether observations and costs are brought to a scale, and how far observations are clipped.

    Costs are not clipped: the rarer falls are, the more they would be.
    """

    obs: bool
    reward: bool
    obs_clip: float


class Rules(NamedTuple):
    """What an attacker earns and how it learns. With `power` 0 forces cost nothing, else
    kappa |d|^power.
    """

    strength_K: Array
    power: int
    discount: float
    trace: float
    minibatch: int
    epochs: int
    clip: float
    lr: float
    max_grad_norm: float


class Attack:
    def __init__(
        self, sizes: Sizes, terms: Terms, rules: Rules, scaling: Scaling, adam_eps: float, seed: int
    ) -> None:
        born, self.luck, self.order = (
            torch.Generator().manual_seed(integer(seed, name))
            for name in ("weights", "luck", "order")
        )
        n_obs, forces, hidden, log_std = sizes
        room = Box(-np.inf, np.inf, (forces,))
        self.actor = GaussianActor(room, n_obs + 1, hidden, born, log_std)
        critic = mlp([n_obs + 1, *hidden, 1], 1.0, born)
        self.learner = assemble(self.actor, critic, terms, adam_eps, written=True)
        self.obs_scale = ObsScale(n_obs + 1, scaling.obs_clip, on=scaling.obs)
        self.reward_scale = RewardScale(rules.discount, math.inf, on=scaling.reward)
        self.rules, self.kappa_K = rules, np.full(len(rules.strength_K), np.nan)
        self.level_E: NDArray[np.int64] = np.zeros(0, np.int64)
        self._rollout, self._noise_TEF = Rollout(np.zeros((0, 0, 0)), np.zeros(0)), np.zeros(0)
        self._cost_TE = self._norm_TE = np.zeros((0, 0))
        self._level_TE: NDArray[np.int64] = np.zeros((0, 0), np.int64)
        self._obs_ED: Array = np.zeros((0, 0), np.float32)

    def begin(self, obs: Array) -> None:
        """Begin anew with *obs*: all its environments were reset."""
        self.reward_scale.begin(len(obs))
        self.level_E = self._drawn(len(obs))
        self._obs_ED = self._scaled(obs)

    def expect(self, n_steps: int) -> None:
        """Make room for a rollout of *n_steps*."""
        shape, width = (n_steps, len(self._obs_ED)), self._obs_ED.shape[1]
        obs_TED = np.zeros((*shape, width), np.float32)
        self._rollout = Rollout(obs_TED, self.actor.blank(*shape))
        self._noise_TEF = self.actor.noise(*shape, generator=self.luck).numpy()
        self._cost_TE, self._norm_TE = np.zeros((2, *shape))
        self._level_TE = np.zeros(shape, np.int64)

    def push(self, t: int, limit: float) -> Array:
        """Return force_EF for step *t* of the rollout, up to its share of *limit*."""
        push_EF = self.learner.net.act(self._obs_ED, self._noise_TEF[t])
        self._rollout.obs_TED[t], self._rollout.action_TE[t] = self._obs_ED, push_EF
        strength_E1 = self.rules.strength_K[self.level_E, None]
        force_EF: Array = squash(push_EF.astype(np.float64), limit) * strength_E1
        self._norm_TE[t] = np.linalg.norm(force_EF, axis=1)
        self._level_TE[t] = self.level_E
        return force_EF

    def take(self, t: int, cost_E: Array, obs: Array, ended_E: Array, final: Array | None) -> None:
        """Take note of what step *t* cost, and led to.

        *ended_E* says which episodes are over. *final* holds the last observations of those that
        time ended, and NaN elsewhere; None where there are none.
        """
        paid_E, rollout = cost_E, self._rollout
        if self.rules.power:
            kappa_E = np.nan_to_num(self.kappa_K)[self.level_E]
            paid_E = cost_E - kappa_E * self._norm_TE[t] ** self.rules.power
        self._cost_TE[t] = cost_E
        rollout.reward_TE[t] = self.reward_scale.learn(paid_E, ended_E)
        rollout.done_TE[t] = ended_E
        if final is not None:  # it still has the strength of the episode that it ended
            cut_E = ~np.isnan(final.reshape(len(final), -1)).any(1)
            reached = seen(final[cut_E], self.rules.strength_K[self.level_E[cut_E]])
            rollout.after_TE[t, cut_E] = self.learner.net.value(self.obs_scale(reached))
        if ended_E.any():
            self.level_E = np.where(ended_E, self._drawn(len(ended_E)), self.level_E)
        self._obs_ED = self._scaled(obs)

    def improve(self) -> Iterator[dict[str, float] | None]:
        """Learn from the rollout, an update between two yields; the last one says what of it."""
        rules, net, learner = self.rules, self.learner.net, self.learner
        told = self._bargain()
        batch = judged(net, self._rollout, self._obs_ED, rules.discount, rules.trace)
        size = len(batch.return_B)
        starts = range(0, size, rules.minibatch)
        for epoch in range(rules.epochs):
            order_B = net.order(torch.randperm(size, generator=self.order))
            parts: Iterator[Batch[Any]] = minibatches(batch, rules.minibatch, order_B)
            for start, part in zip(starts, parts, strict=True):
                net.gradient(part, rules.clip)
                learner.adam.step([learner.flat.grad], rules.lr, rules.max_grad_norm)
                if epoch < rules.epochs - 1 or start != starts[-1]:
                    yield None
        yield told | assessed(net, batch, rules.clip)

    def _bargain(self) -> dict[str, float]:
        """Move kappa to the ratios of cost to force that the rollout has shown, and return them.

        Dinkelbach 1967: whoever earns more than 0 at the ratio so far beats it.
        """
        told = {"cost": float(self._cost_TE.mean()), "force": float(self._norm_TE.mean())}
        if not self.rules.power:
            return told
        m_TE = self._norm_TE**self.rules.power
        for k in range(len(self.kappa_K)):
            mine_TE = self._level_TE == k
            force = float(m_TE[mine_TE].sum())
            if force:
                ratio, before = float(self._cost_TE[mine_TE].sum()) / force, self.kappa_K[k]
                first = np.isnan(before)
                self.kappa_K[k] = ratio if first else before + KAPPA_LR * (ratio - before)
        if not np.isnan(self.kappa_K).all():
            told["kappa"] = float(np.nanmax(self.kappa_K))
        return told

    def greedy(self) -> GreedyPolicy:
        return GreedyPolicy(self.actor, self.obs_scale)

    def state(self) -> dict[str, Mapping[str, Tensor]]:
        luck = {"luck": self.luck.get_state(), "order": self.order.get_state()}
        own = {"weights": self.learner.flat.weights, "kappa": torch.from_numpy(self.kappa_K)}
        parts = {name: part.state() for name, part in self._moments().items()}
        return {"own": own, "adam": self.learner.adam.state(), "luck": luck, **parts}

    def load(self, state: Mapping[str, dict[str, Tensor]]) -> None:
        self.learner.flat.weights.copy_(state["own"]["weights"])
        self.kappa_K = state["own"]["kappa"].numpy().copy()
        self.learner.adam.load(state["adam"])
        self.luck.set_state(state["luck"]["luck"])
        self.order.set_state(state["luck"]["order"])
        for name, part in self._moments().items():
            part.load(state[name])

    def _moments(self) -> dict[str, Moments]:
        return {"obs": self.obs_scale.moments, "reward": self.reward_scale.moments}

    def _drawn(self, count: int) -> NDArray[np.int64]:
        """Return which strength each of *count* episodes is to have."""
        size = (count,)
        drawn: NDArray[np.int64] = torch.randint(
            len(self.rules.strength_K), size, generator=self.luck
        ).numpy()
        return drawn

    def _scaled(self, obs: Array) -> Array:
        return self.obs_scale.learn(seen(obs, self.rules.strength_K[self.level_E]))
