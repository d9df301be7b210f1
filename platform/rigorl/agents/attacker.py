"""Attacker: disturbers learn by PPO to push where it hurts a policy that learns no more.

To evaluate with the disturber of training is to ask who knows the policy's answers already;
so a fresh one is trained against each policy, `after: <arm>`, and of several the worst counts.

    s state, a = victim(s), d force, C = max(0, best - reward) its cost, a fall counted as in `hinf`
    an attacker, given s and its strength, maximises the sum of discount^t C, or of
    discount^t (C - kappa |d|^p), with kappa the ratio of C to |d|^p lately (`pays: gain`)

`attackers` of them learn side by side in one trial, each with its own networks, luck and equal
share of the environments, and so of the budget's steps. In each episode one is held to a share
of the port's limit, drawn evenly from `strengths` and shown to it, so that one attacker serves a
whole curve. It is examined at each of them, as `attack-0@0.25`, beside `nominal`: the victim alone.

Pushes are squashed (`blocks/forces.py`), so PPO's ratio is that of what was drawn before. The rest
is as in `ppo`. Shapes: E environments, F numbers of a force.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from rigorl.blocks import attacked
from rigorl.blocks.actor_critic import Terms
from rigorl.blocks.attack import Attack, Rules, Scaling, Sizes
from rigorl.blocks.attacked import Attacked, load_policy
from rigorl.blocks.storage import load_groups, save_groups
from rigorl.contract import Crew, Progress, Span
from rigorl.errors import SpecError
from rigorl.seeds import integer
from rigorl.tasks import pushes
from rigorl.tasks.gauge import shortfall
from rigorl.tasks.world import Policy, World, WorldSpec

__all__ = ["Attacker", "Config", "load_policy", "make"]

Array = NDArray[Any]
Count = Annotated[int, Meta(gt=0)]
Positive = Annotated[float, Meta(gt=0)]
Coefficient = Annotated[float, Meta(ge=0)]
Unit = Annotated[float, Meta(ge=0, le=1)]
Share = Annotated[float, Meta(gt=0, le=1)]


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    attackers: Count = 2
    strengths: Annotated[tuple[Share, ...], Meta(min_length=1)] = (0.1, 0.2, 0.3, 0.4, 0.6, 1.0)
    """Of the port's limit; the last of what an attacker sees. Finer where falls begin: a robot that
    stands all or nothing at quarters tells nothing of how far its robustness goes."""
    pays: Literal["cost", "gain"] = "cost"
    """With `gain` forces cost what they are worth: the worst ratio is looked for. Where costs
    grow with the force for ever, as those of linear systems do, it needs the norm `squared`."""
    norm: Literal["plain", "squared"] = "plain"
    lr: Positive = 3e-4
    lr_schedule: Literal["constant", "linear"] = "constant"
    n_steps: Count = 2_048
    minibatch: Annotated[int, Meta(ge=2)] = 64
    epochs: Count = 10
    discount: Annotated[float, Meta(ge=0, lt=1)] = 0.99
    gae_lambda: Unit = 0.95
    clip: Positive = 0.2
    entropy_coef: Coefficient = 0.01
    value_coef: Coefficient = 0.5
    max_grad_norm: Positive = 0.5
    adam_eps: Positive = 1e-5
    hidden: tuple[Count, ...] = (64, 64)
    log_std_init: float = 0.0
    """Of what is squashed: tanh of its norm is the share of what is allowed. Who tries weak pushes
    only, and never sees a fall, learns nothing, and takes what it could not break for robust."""
    normalize_obs: bool = True
    normalize_reward: bool = True
    obs_clip: Positive = 10.0

    def __post_init__(self) -> None:
        if len(set(self.strengths)) != len(self.strengths):
            raise ValueError(f"strengths must differ, but are {list(self.strengths)}; drop one")


def make(config: Config, world: WorldSpec, seed: int) -> "Attacker":
    attacked.check(world, "attacker")
    if world.num_envs % config.attackers:
        raise SpecError(
            f"num_envs must be a multiple of attackers, who share them evenly, but is "
            f"{world.num_envs} for {config.attackers}; write budget.num_envs: "
            f"{config.attackers * math.ceil(world.num_envs / config.attackers)}",
            "$.config.attackers",
        )
    return Attacker(config, world, seed)


class Attacker:
    def __init__(self, config: Config, world: WorldSpec, seed: int) -> None:
        self.config, self.updates = config, 0
        self.given: Mapping[str, Policy] = {}
        self.limit = 0.0
        n_obs = math.prod(world.observation.shape or ())
        sizes = Sizes(n_obs, world.forces, config.hidden, config.log_std_init)
        terms = Terms(config.value_coef, config.entropy_coef, normalize_advantage=True)
        scaling = Scaling(config.normalize_obs, config.normalize_reward, config.obs_clip)
        self.attacks = [
            Attack(sizes, terms, self._rules(1.0), scaling, config.adam_eps, luck)
            for luck in (integer(seed, "attacker", n) for n in range(config.attackers))
        ]

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        del crew
        config, count, step = self.config, world.envs.num_envs, span.start
        assert world.port is not None  # noqa: S101  refused before
        self.given, self.limit = world.given, world.port.limit
        # A policy may have luck of its own, which begins anew with each copy.
        victim = copy.deepcopy(attacked.only(world.given, "attacker"))
        obs = world.envs.reset()[0]
        for attack, mine in self._shares(count):
            attack.begin(obs[mine])
        while step < span.stop:
            left = 1 - step / span.stop if config.lr_schedule == "linear" else 1.0
            n_steps = min(config.n_steps, math.ceil((span.stop - step) / count))
            obs = self._collect(world, victim, obs, n_steps)
            step = min(step + n_steps * count, span.stop)
            metrics: dict[str, float] = {}
            for n, attack in enumerate(self.attacks):
                attack.rules = self._rules(left)
                for told in attack.improve():
                    self.updates += 1
                    metrics |= {f"{key}/attack-{n}": value for key, value in (told or {}).items()}
                    last = told is not None and attack is self.attacks[-1]
                    yield Progress(step, self.updates, metrics if last else {}, safe=last)

    def _collect(self, world: World, victim: Policy, obs: Array, n_steps: int) -> Array:
        """Let all of them push for *n_steps* from *obs* on. Return where that led."""
        envs, port, spec = world.envs, world.port, world.task.port
        assert port is not None and spec is not None  # noqa: PT018, S101  refused before
        shares = list(self._shares(envs.num_envs))
        for attack, _ in shares:
            attack.expect(n_steps)
        for t in range(n_steps):
            port.push(np.concatenate([attack.push(t, port.limit) for attack, _ in shares]))
            obs, reward_E, terminated_E, truncated_E, info = envs.step(victim(obs))
            cost_E = shortfall(reward_E, spec.best) + spec.fall_cost * terminated_E
            cut_E, final = truncated_E & ~terminated_E, None
            if cut_E.any():
                final = np.full(obs.shape, np.nan)
                final[cut_E] = np.stack(info["final_obs"][cut_E])
            for attack, mine in shares:
                ended_E, theirs = (terminated_E | truncated_E)[mine], cut_E[mine].any()
                reached = final[mine] if final is not None and theirs else None
                attack.take(t, cost_E[mine], obs[mine], ended_E, reached)
        return np.asarray(obs)

    def _shares(self, count: int) -> Iterator[tuple[Attack, slice]]:
        """Yield each attacker, and which of *count* environments are its own."""
        size = count // len(self.attacks)
        for n, attack in enumerate(self.attacks):
            yield attack, slice(n * size, (n + 1) * size)

    def _rules(self, left: float) -> Rules:
        config = self.config
        power = {"plain": 1, "squared": 2}[config.norm] if config.pays == "gain" else 0
        return Rules(
            np.array(config.strengths),
            power,
            config.discount,
            config.gae_lambda,
            config.minibatch,
            config.epochs,
            config.clip,
            config.lr * left,
            config.max_grad_norm,
        )

    def policies(self) -> Mapping[str, Policy]:
        if not self.given:  # nobody to attack is known before `learn`
            return {}
        victim = attacked.only(self.given, "attacker")
        found: dict[str, Policy] = {pushes.NOMINAL: victim}
        for n, attack in enumerate(self.attacks):
            disturber = attack.greedy()
            for strength in self.config.strengths:
                name = pushes.name(pushes.Attack(n, strength))
                found[name] = Attacked(victim, disturber, strength, self.limit)
        return found

    def save(self, folder: Path) -> None:
        groups = {
            f"{n}-{name}": group
            for n, attack in enumerate(self.attacks)
            for name, group in attack.state().items()
        }
        save_groups(groups, folder / "attacker.safetensors")
        (folder / "attacker.json").write_bytes(msgspec.json.encode({"updates": self.updates}))

    def load(self, folder: Path) -> None:
        groups = load_groups(folder / "attacker.safetensors")
        for n, attack in enumerate(self.attacks):
            attack.load({name: groups[f"{n}-{name}"] for name in attack.state()})
        self.updates = msgspec.json.decode((folder / "attacker.json").read_bytes())["updates"]
