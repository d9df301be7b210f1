"""H-infinity: an actor against a disturber, under a bound on cost per unit of force.

After Long, Yu, Li, Wang, Lin, Pang 2024, "Learning H-Infinity Locomotion Control" (arXiv
2404.14405), whose training code is not public. Marked *paper* is what its figure shows.

    s state, a action, d force, r reward, C = max(0, best - r) its cost (paper: never negative)
    pi actor, mu disturber, V value of reward, Vc of cost, one body with two heads (paper)
    m = |d| (paper), or |d|^2, which makes it classical: eta is then the square of the L2 gain
    eta the cost that is admissible for each unit of m, lambda >= 0 the dual variable

    slack_t = kappa m_t - C_t + Vc(s_t) - gamma Vc(s_t+1)   (per step: dissipation, Vc stores)
    pi     <- argmax  L_PPO(pi; A) + lambda L(pi; slack) / M
    mu     <- argmax  L_PPO(mu; Ad),  Ad the advantage of C - kappa m
    lambda <- clip(lambda - alpha max(1 - sum C / (eta sum m), -1), 0, lambda_max)

Ours: the surrogate L carries the importance ratio, or the actor would receive nothing of the
constraint; slack is accumulated as advantages are (`slack_trace`; 0 is the form above); M, the
mean of m, makes lambda a price in reward for a unit of gain, whatever the forces (`per_force`);
the two meet in some environments, and in the others, `nominal`, reward is earned under random
forces or none (with 0 one rollout serves both, as in the figure; before there are forces, all
earn). kappa is eta: both players share one Lagrangian; or 0 (`cost`: as strong as allowed); or the
ratio of C to m lately (`pays: gain`; who earns more than 0 has a higher one, and the slope of the
slack is M times that of the ratio: Dinkelbach 1967). The highest is had at the edge of stability,
beyond which forces grow to their limit and learn no more: with a `margin`, ratios count so much
more, and it pays to stay inside. Vc values C - kappa m under the disturber, what it can still
extract (Willems 1972, available storage), or, as does then the slack, C alone (`storage: cost`). C
holds what is due to no force, too, unless some are `calm`: that can raise lambda up to its cap.

`nominal: 1` is PPO; `nominal: 0`, `pays: cost` and lambda 0 for ever, RARL (Pinto et al. 2017).

Shapes: T steps of a rollout, E environments, B batch, D observation, A action, F force, 2 heads.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import msgspec
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from msgspec import Meta, Struct
from numpy.typing import NDArray

from rigorl.blocks.duel import Field, Rollout, Terms, centred, evened, flat, of, opponents
from rigorl.blocks.forces import Random
from rigorl.blocks.game import Lesson, Players, Sizes, Turns
from rigorl.blocks.greedy import GreedyPolicy, load_policy
from rigorl.blocks.normalize import ObsScale, RewardScale
from rigorl.blocks.rollout import gae
from rigorl.blocks.storage import load_groups, save_groups
from rigorl.contract import Crew, Progress, Span
from rigorl.errors import SpecError
from rigorl.seeds import integer
from rigorl.tasks.world import Policy, World, WorldSpec

__all__ = ["Config", "HInf", "load_policy", "make"]

Array = NDArray[Any]
Count = Annotated[int, Meta(gt=0)]
Positive = Annotated[float, Meta(gt=0)]
Coefficient = Annotated[float, Meta(ge=0)]
Unit = Annotated[float, Meta(ge=0, le=1)]
KAPPA_LR, NEAR = 0.2, 0.9


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    eta: Positive = 0.05
    """Admissible cost for each unit of m, in reward per newton (or newton squared)."""
    norm: Literal["plain", "squared"] = "plain"
    nominal: Unit = 0.5
    """Share of the environments in which there is no disturber."""
    random: Random = Random()  # forces in those
    calm: Unit = 0.0  # share of all without any force; C is what costs more than a step costs there
    pays: Literal["gain", "eta", "cost"] = "eta"
    margin: Coefficient = 0.0  # share by which a ratio counts for more than it is
    storage: Literal["available", "cost"] = "available"
    slack_trace: Unit = 0.95
    per_force: bool = True
    lambda_init: Coefficient = 0.0
    lambda_lr: Coefficient = 0.1
    """alpha, the most that a rollout moves lambda; 0 leaves it what it is."""
    lambda_max: Positive = 10.0
    warm_up: Unit = 0.1
    ramp: Unit = 0.4
    """Shares of a task's steps without any force, and then of those in which they grow ..."""
    strength: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """... to this share of the port's limit."""
    age_weights: bool = False  # whether a step counts discount^age, its age in the episode
    lr: Positive = 3e-4  # and what follows without a word, as in `ppo`
    lr_schedule: Literal["constant", "linear"] = "constant"
    """Of both players: with `linear` they learn nothing at the end of a task."""
    n_steps: Count = 2_048
    minibatch: Annotated[int, Meta(ge=2)] = 64
    epochs: Count = 10
    discount: Annotated[float, Meta(ge=0, lt=1)] = 0.99
    gae_lambda: Unit = 0.95
    clip: Positive = 0.2
    entropy_coef: Coefficient = 0.0
    value_coef: Coefficient = 0.5
    max_grad_norm: Positive = 0.5
    adam_eps: Positive = 1e-5
    hidden: tuple[Count, ...] = (64, 64)
    odd: bool = False
    """Whether the actor has no biases: then it does the opposite where all is the opposite."""
    value_hidden: tuple[Count, ...] = (64, 64)
    log_std_init: float = 0.0
    log_std_final: float | None = None
    """Given, it is not learned: it goes there evenly, for what is tried costs too, and stays."""
    settled: Annotated[float, Meta(gt=0, le=1)] = 0.5  # when it is there, as a share of a task
    # Of the disturber:
    push_hidden: tuple[Count, ...] = (64, 64)
    disturbers: Count = 1
    """One after the other in each task, for an actor learns to answer the one that it knows."""
    push_lr: Positive = 3e-4
    push_log_std_init: float = 0.0
    """Of what is squashed: tanh of its norm is the share of the limit (and why 0: `attacker`)."""
    push_log_std_final: float | None = None
    push_entropy_coef: Coefficient = 0.01
    normalize_obs: bool = True
    normalize_reward: bool = True
    obs_clip: Positive = 10.0
    reward_clip: Positive = 10.0
    reward_memory: Count | None = None
    """Steps, about so many of the latest, by which rewards are scaled; all if left out."""

    def __post_init__(self) -> None:
        if self.warm_up + self.ramp >= 1:
            law = "warm_up and ramp must add up to less than 1, to leave steps at strength, but are"
            raise ValueError(f"{law} {self.warm_up} and {self.ramp}; lower one")
        if self.lambda_init > self.lambda_max:
            law = f"at most lambda_max, but is {self.lambda_init} > {self.lambda_max}"
            raise ValueError(f"lambda_init must be {law}; raise lambda_max")


def make(config: Config, world: WorldSpec, seed: int) -> "HInf":
    spaces = world.observation, world.action
    if not isinstance(spaces[0], Box) or not isinstance(spaces[1], Box | Discrete):
        raise SpecError(
            f"hinf must see a Box and act in a Box or a Discrete space, but they are {spaces}; "
            "choose a task with such spaces"
        )
    return HInf(config, world, seed)


class HInf:
    def __init__(self, config: Config, world: WorldSpec, seed: int) -> None:
        self.config, self.seed, self.nth = config, seed, 0
        self.games, self.calm = opponents(world, config.nominal, config.calm)
        born, self.luck, self.order = (
            torch.Generator().manual_seed(integer(seed, name))
            for name in ("weights", "luck", "order")
        )
        n_obs, action = math.prod(world.observation.shape or ()), cast("Any", world.action)
        nets = config.hidden, config.push_hidden, config.value_hidden
        sizes = Sizes(n_obs, world.forces, *nets, config.log_std_init, config.push_log_std_init)
        self.players = Players(action, sizes, config.adam_eps, born, odd=config.odd)
        self.obs_scale = ObsScale(n_obs, config.obs_clip, on=config.normalize_obs)
        scale: Any = {"on": config.normalize_reward, "memory": config.reward_memory}
        self.reward_scale = RewardScale(config.discount, config.reward_clip, **scale)
        self.lambda_, self.kappa = config.lambda_init, config.eta

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        del crew
        config, count, step = self.config, world.envs.num_envs, span.start
        field = Field(world, self.obs_scale, self.reward_scale)
        while step < span.stop:
            share = step / span.stop
            self._renew(span.stage, share)
            self._explore(share)
            level, lesson = self._level(share), self._lesson(share)
            n_steps = min(config.n_steps, math.ceil((span.stop - step) / count))
            counts = config.discount, config.age_weights, self.calm
            terms = Terms(self.games, level, config.random, *counts)
            rollout = field.play(self.players, terms, n_steps, self.luck)
            step = min(step + n_steps * count, span.stop)
            told = {"force_level": level, **self._bargain(rollout, level)}
            turns = self._judged(rollout, field.obs_ED)
            for lost, last in self.players.learn(turns, lesson, self.order):
                metrics = lost._asdict()
                if last:
                    metrics |= told | self.players.assess(turns) | field.episodes.summary()
                yield Progress(step, self.players.updates, metrics, safe=last)

    def _explore(self, share: float) -> None:
        """Set the deviations that are not learned, after this *share* of a task."""
        config, way = self.config, min(1.0, share / self.config.settled)
        own = config.log_std_init, config.log_std_final
        theirs = config.push_log_std_init, config.push_log_std_final
        self.players.explore(*(b if b is None else a + way * (b - a) for a, b in (own, theirs)))

    def _level(self, share: float) -> float:
        """Return the forces that there may be then, in limits."""
        config, past = self.config, share - self.config.warm_up
        grown = past / config.ramp if config.ramp else float(past >= 0)
        return config.strength * min(max(grown, 0.0), 1.0)

    def _renew(self, stage: int, share: float) -> None:
        """Have the next disturber begin, if it is its turn."""
        nth = int(share * self.config.disturbers)
        if nth > self.nth:
            born = integer(self.seed, "disturber", stage, nth)
            self.players.renew(torch.Generator().manual_seed(born))
        self.nth = nth

    def _lesson(self, share: float) -> Lesson:
        config, past = self.config, (share, share * self.config.disturbers % 1)
        left, theirs = (1 - x if config.lr_schedule == "linear" else 1.0 for x in past)
        pushed = self.games and self._level(share)
        rates = config.lr * left, config.push_lr * theirs if pushed else None, config.max_grad_norm
        coefs = config.entropy_coef, config.push_entropy_coef
        return Lesson(config.minibatch, config.epochs, config.clip, *rates, *coefs)

    def _m(self, rollout: Rollout) -> Array:
        return cast("Array", rollout.norm_TE ** {"plain": 1, "squared": 2}[self.config.norm])

    def _bargain(self, rollout: Rollout, level: float) -> dict[str, float]:
        """Move lambda and kappa by what this rollout, which both players made, has shown."""
        config, theirs = self.config, np.s_[:, : self.games]
        weight_TE = rollout.weight_TE[theirs]
        force = float((weight_TE * self._m(rollout)[theirs]).sum())
        if not force:  # nobody was pushed
            return {"lambda": self.lambda_}
        ratio = float((weight_TE * rollout.cost_TE[theirs]).sum()) / force
        slack = 1 - (1 + config.margin) * ratio / config.eta
        self.kappa += KAPPA_LR * ((1 + config.margin) * ratio - self.kappa)
        if level == config.strength:  # before, costs that no force is due to would count for more
            moved = self.lambda_ - config.lambda_lr * max(slack, -1.0)
            self.lambda_ = min(max(moved, 0.0), config.lambda_max)
        capped = config.lambda_lr > 0 and self.lambda_ > NEAR * config.lambda_max
        told = {"lambda": self.lambda_, "slack": slack, "ratio": ratio, "kappa": self.kappa}
        return told | {"infeasible": float(capped and self.kappa > config.eta)}

    def _judged(self, rollout: Rollout, last_ED: Array) -> Turns:
        """Return *rollout*, which led to *last_ED*, as both players are to learn from it."""
        config, players, done_TE = self.config, self.players, rollout.done_TE
        rows = rollout.obs_TED, rollout.action_TE, rollout.push_TEF
        obs_BD, action, push_BF = (flat(row) for row in rows)
        value_TE2 = np.reshape(players.values(obs_BD), rollout.after_TE2.shape)
        next_TE2 = np.concatenate([value_TE2[1:], players.values(last_ED)[None]])
        next_TE2 = np.where(done_TE[..., None], rollout.after_TE2, next_TE2)

        def gained(paid_TE: Array, head: int, trace: float) -> Array:
            values = value_TE2[..., head], next_TE2[..., head]
            return gae(paid_TE, *values, done_TE, discount=config.discount, trace=trace)

        unit, m_TE = self.reward_scale.unit, self._m(rollout)
        kappa = {"gain": self.kappa, "eta": config.eta, "cost": 0.0}[config.pays]
        cost_TE, owed_TE = rollout.cost_TE / unit, kappa * m_TE / unit
        available = config.storage == "available"
        stored_TE = cost_TE - owed_TE * available
        reward_TE = gained(rollout.reward_TE, 0, config.gae_lambda)
        stored_gain_TE = gained(stored_TE, 1, config.gae_lambda)
        slack_TE = -gained(stored_TE, 1, config.slack_trace)
        push_TE = stored_gain_TE - owed_TE * (not available)

        plays_E = np.arange(len(last_ED)) < self.games
        earns_E = ~plays_E | (plays_E.all() or not m_TE[:, plays_E].any())
        count_TE = rollout.weight_TE / rollout.weight_TE.mean()
        mean_m = float(of(m_TE, count_TE, plays_E).mean()) if config.per_force else 1.0
        price = self.lambda_ / mean_m if mean_m else 0.0
        earned_TE = centred(reward_TE, count_TE, earns_E)
        earned_TE += price * centred(slack_TE, count_TE, plays_E)
        heads_TE2 = np.stack([reward_TE, stored_gain_TE], 2) + value_TE2
        weight_TE2 = np.stack([count_TE * earns_E, count_TE * plays_E], 2) * config.value_coef
        return Turns(
            obs_BD,
            action,
            players.acts.judge(obs_BD, action)[0],
            evened(earned_TE),
            push_BF,
            players.pushes.judge(obs_BD, push_BF)[0],
            evened(centred(push_TE, count_TE, plays_E)),
            flat(heads_TE2.astype(np.float32)),
            flat(weight_TE2.astype(np.float32)),
        )

    def policies(self) -> Mapping[str, Policy]:
        return {"hinf": GreedyPolicy(self.players.actor, self.obs_scale)}

    def save(self, folder: Path) -> None:
        luck = {"luck": self.luck.get_state(), "order": self.order.get_state()}
        obs, reward = self.obs_scale.moments.state(), self.reward_scale.moments.state()
        groups = {**self.players.state(), "generators": luck, "obs": obs, "reward": reward}
        save_groups(groups, folder / "hinf.safetensors")
        kept = {"updates": self.players.updates, "lambda": self.lambda_, "kappa": self.kappa}
        kept["disturber"] = self.nth
        (folder / "hinf.json").write_bytes(msgspec.json.encode(kept))

    def load(self, folder: Path) -> None:
        groups = load_groups(folder / "hinf.safetensors")
        self.players.load(groups)
        self.obs_scale.moments.load(groups["obs"])
        self.reward_scale.moments.load(groups["reward"])
        self.luck.set_state(groups["generators"]["luck"])
        self.order.set_state(groups["generators"]["order"])
        kept = msgspec.json.decode((folder / "hinf.json").read_bytes())
        self.players.updates, self.nth = kept["updates"], kept["disturber"]
        self.lambda_, self.kappa = kept["lambda"], kept["kappa"]
