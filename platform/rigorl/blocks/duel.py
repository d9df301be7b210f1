"""A rollout in which an actor and a disturber meet in some environments, and not in others.

Shapes: T steps, E environments, B batch, D observation, A action, F numbers of a push, 2 heads: of
reward, and of cost.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rigorl.blocks.forces import Random, squash
from rigorl.blocks.game import Players
from rigorl.blocks.normalize import ObsScale, RewardScale
from rigorl.blocks.rollout import Episodes
from rigorl.errors import SpecError
from rigorl.tasks.gauge import shortfall
from rigorl.tasks.world import World, WorldSpec

Array = NDArray[Any]
TINY = 1e-12


class Rollout:
    """Room for T steps of E environments. `after_TE2` are the values of states in which episodes
    ended, 0 if they were terminal; `weight_TE` is what a step counts, `norm_TE` that of its force.
    """

    def __init__(self, obs_TED: Array, action_TE: Array, push_TEF: Array) -> None:
        self.obs_TED, self.action_TE, self.push_TEF = obs_TED, action_TE, push_TEF
        shape = obs_TED.shape[:2]
        self.reward_TE, self.cost_TE, self.norm_TE = np.zeros((3, *shape))
        self.weight_TE, self.done_TE = np.ones(shape), np.zeros(shape, np.bool_)
        self.after_TE2 = np.zeros((*shape, 2), np.float32)


class Terms(NamedTuple):
    """On what they meet: the first *games* environments have the disturber, the others *random*
    forces, but the last *calm* of them none: costs are then less what a step costs there, in the
    mean. There is so much of the port's limit as *level* says.
    """

    games: int
    level: float
    random: Random
    discount: float
    age_weights: bool
    calm: int = 0


def opponents(world: WorldSpec, nominal: float, calm: float) -> tuple[int, int]:
    """Return how many environments have the disturber, and how many no force at all, if the shares
    *nominal* have no disturber, and *calm* nothing.

    SpecError where there is nobody to disturb, or too few to be shared out.
    """
    count = world.num_envs
    if not world.forces:
        law = "hinf must be disturbed by something, but the tasks have no port; give each a `port`"
        raise SpecError(law)
    games, still = round((1 - nominal) * count), round(calm * count)
    if 0 < nominal < 1 and not 0 < games < count:
        raise SpecError(
            f"nominal must leave environments to both, but of {count} it takes {count - games}; "
            "raise budget.num_envs, or write 0 or 1",
            "$.config.nominal",
        )
    if still > count - games or (calm and not still):
        raise SpecError(
            f"calm must be of environments without a disturber, which are {count - games} of "
            f"{count}, but is {still} of {count}; raise nominal or budget.num_envs, or write 0",
            "$.config.calm",
        )
    return games, still


class Field:
    """Where they meet: environments, and what has been seen of them since `reset`."""

    def __init__(self, world: World, obs_scale: ObsScale, reward_scale: RewardScale) -> None:
        count = world.envs.num_envs
        self.world, self.obs_scale, self.reward_scale = world, obs_scale, reward_scale
        reward_scale.begin(count)
        self.obs_ED = obs_scale.learn(world.envs.reset()[0])
        self.episodes, self.age_E = Episodes(count), np.zeros(count)

    def play(self, players: Players, terms: Terms, n_steps: int, luck: torch.Generator) -> Rollout:
        """Play for *n_steps*. Where that led to is `obs_ED`."""
        envs, port, spec = self.world.envs, self.world.port, self.world.task.port
        assert port is not None and spec is not None  # noqa: PT018, S101  refused before
        shape, actor = (n_steps, envs.num_envs), players.actor
        room = np.zeros((*shape, self.obs_ED.shape[1]), np.float32), actor.blank(*shape)
        rollout = Rollout(*room, players.disturber.blank(*shape))
        noise_TEA = actor.noise(*shape, generator=luck).numpy()
        noise_TEF = players.disturber.noise(*shape, generator=luck).numpy()
        limit = port.limit * terms.level
        force_TEF = terms.random.draw((*shape, port.size), luck) * limit
        calm = np.s_[:, envs.num_envs - terms.calm :]
        force_TEF[calm] = 0.0
        for t in range(n_steps):
            obs_ED = self.obs_ED
            action_E = players.acts.act(obs_ED, noise_TEA[t])
            push_EF = players.pushes.act(obs_ED, noise_TEF[t])
            force_TEF[t, : terms.games] = squash(push_EF[: terms.games], limit)
            rollout.obs_TED[t], rollout.action_TE[t] = obs_ED, action_E
            rollout.push_TEF[t] = push_EF
            if terms.age_weights:
                rollout.weight_TE[t] = terms.discount**self.age_E
            port.push(force_TEF[t])
            obs, reward_E, terminated_E, truncated_E, info = envs.step(actor.for_env(action_E))
            done_E = terminated_E | truncated_E
            self.age_E = np.where(done_E, 0, self.age_E + 1)
            self.obs_ED = self.obs_scale.learn(obs)
            rollout.cost_TE[t] = shortfall(reward_E, spec.best) + spec.fall_cost * terminated_E
            rollout.reward_TE[t] = self.reward_scale.learn(reward_E, done_E)
            rollout.done_TE[t] = done_E
            cut_E = truncated_E & ~terminated_E
            if cut_E.any():
                reached = np.stack(info["final_obs"][cut_E])
                rollout.after_TE2[t, cut_E] = players.values(self.obs_scale(reached))
            self.episodes.add(reward_E, done_E)
        rollout.norm_TE[:] = np.linalg.norm(force_TEF, axis=2)
        if terms.calm:
            rollout.cost_TE -= np.average(rollout.cost_TE[calm], weights=rollout.weight_TE[calm])
        return rollout


def of(x_TE: Array, count_TE: Array, who_E: Array) -> Array:
    """Return *x* so that its mean over all rows is the weighted mean over those of *who*."""
    counts_TE = count_TE * who_E
    scaled_TE: Array = x_TE * counts_TE / (counts_TE.mean() + TINY)
    return scaled_TE


def centred(advantage_TE: Array, count_TE: Array, who_E: Array) -> Array:
    """Return the advantages of *who*, less their mean, weighed as in `of`; 0 of the others."""
    mean = of(advantage_TE, count_TE, who_E).mean()
    return of(advantage_TE - mean, count_TE, who_E)


def evened(advantage_TE: Array) -> Array:
    """Return advantage_B with a root mean square of 1, in single precision."""
    size = math.sqrt(float(np.square(advantage_TE).mean())) + 1e-8
    return (advantage_TE / size).astype(np.float32).reshape(-1)


def flat(rows_TE: Array) -> Array:
    """Return a row for each step of each environment."""
    rows: Array = rows_TE.reshape(-1, *rows_TE.shape[2:])
    return rows
