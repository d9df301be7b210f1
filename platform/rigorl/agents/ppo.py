"""PPO: proximal policy optimisation with a clipped surrogate. Schulman et al. 2017.

The details are those of Stable-Baselines3 (Raffin et al. 2021), and so are the defaults, save
that observations and rewards are normalised. `experiments/benchmarks/ppo_vs_sb3.py` compares
the two.

Shapes: T steps of a rollout, E environments, B batch, D observation, A action.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

import msgspec
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from msgspec import Meta, Struct
from numpy.typing import NDArray
from torch import Tensor

from rigorl.blocks.actors import make_actor
from rigorl.blocks.adam import Adam
from rigorl.blocks.greedy import GreedyPolicy, load_policy
from rigorl.blocks.nets import mlp
from rigorl.blocks.normalize import Moments, ObsScale, RewardScale
from rigorl.blocks.rollout import Batch, Episodes, Rollout, minibatches
from rigorl.blocks.storage import load_groups, save_groups
from rigorl.contract import Crew, Progress, Span
from rigorl.errors import SpecError
from rigorl.seeds import integer
from rigorl.tasks.world import Envs, Policy, World, WorldSpec

__all__ = ["PPO", "Config", "load_policy", "make"]

Count = Annotated[int, Meta(gt=0)]
Positive = Annotated[float, Meta(gt=0)]
Coefficient = Annotated[float, Meta(ge=0)]
Unit = Annotated[float, Meta(ge=0, le=1)]
Schedule = Literal["constant", "linear"]


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    lr: Positive = 3e-4
    lr_schedule: Schedule = "constant"
    n_steps: Count = 2_048
    """Steps of each environment between two rounds of learning."""
    minibatch: Annotated[int, Meta(ge=2)] = 64
    epochs: Count = 10
    discount: Unit = 0.99
    gae_lambda: Unit = 0.95
    clip: Positive = 0.2
    clip_schedule: Schedule = "constant"
    entropy_coef: Coefficient = 0.0
    value_coef: Coefficient = 0.5
    max_grad_norm: Positive = 0.5
    target_kl: Positive | None = None
    """After an epoch that has taken the policy further than 1.5 times this, learn no more
    from the rollout."""
    adam_eps: Positive = 1e-5
    hidden: tuple[Count, ...] = (64, 64)
    log_std_init: float = 0.0
    normalize_obs: bool = True
    normalize_reward: bool = True
    normalize_advantage: bool = True
    obs_clip: Positive = 10.0
    reward_clip: Positive = 10.0
    reset_optimizer_at_switch: bool = False
    """Whether Adam forgets its moments when another task begins."""


def make(config: Config, world: WorldSpec, seed: int) -> "PPO":
    obs = world.observation
    if not isinstance(obs, Box):
        raise SpecError(
            f"ppo must see a Box, but the observation is {obs}; "
            "choose a task with Box observations, or flatten them in the environment"
        )
    action = world.action
    if not (_is_real_box(action) or isinstance(action, Discrete)):
        raise SpecError(
            "ppo must act in a Box of floats or in a Discrete space, but the action is "
            f"{action}; choose a task with such actions"
        )
    return PPO(config, math.prod(obs.shape), action, seed)


def _is_real_box(space: Any) -> TypeGuard[Box]:
    return isinstance(space, Box) and np.issubdtype(space.dtype, np.floating)


class PPO:
    def __init__(self, config: Config, n_obs: int, action: Box | Discrete[Any], seed: int) -> None:
        self.config = config
        weights, self.luck, self.order = (
            torch.Generator().manual_seed(integer(seed, name))
            for name in ("weights", "luck", "order")
        )
        self.actor = make_actor(action, n_obs, config.hidden, weights, config.log_std_init)
        self.critic = mlp([n_obs, *config.hidden, 1], 1.0, weights)
        parameters = [*self.actor.parameters(), *self.critic.parameters()]
        self.adam = Adam(parameters, config.adam_eps)
        self.obs_scale = ObsScale(n_obs, config.obs_clip, on=config.normalize_obs)
        self.reward_scale = RewardScale(
            config.discount, config.reward_clip, on=config.normalize_reward
        )
        self.updates = 0

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        del crew
        config, envs = self.config, world.envs
        if span.start == 0 and span.stage > 0 and config.reset_optimizer_at_switch:
            self.adam.forget()
        self.reward_scale.begin(envs.num_envs)
        episodes = Episodes(envs.num_envs)
        obs_ED = self.obs_scale.learn(envs.reset()[0])
        step = span.start
        while step < span.stop:
            left = 1 - step / span.stop
            lr = scheduled(config.lr, config.lr_schedule, left)
            clip = scheduled(config.clip, config.clip_schedule, left)
            n_steps = min(config.n_steps, math.ceil((span.stop - step) / envs.num_envs))
            batch, obs_ED = self._collect(envs, obs_ED, n_steps, episodes)
            step = min(step + n_steps * envs.num_envs, span.stop)
            for loss, last in self._improve(batch, lr, clip):
                metrics = {"loss": loss}
                if last:
                    metrics |= {"lr": lr} | self._assess(batch, clip) | episodes.summary()
                yield Progress(step, self.updates, metrics, safe=last)

    @torch.no_grad()
    def _collect(
        self, envs: Envs, obs_ED: Tensor, n_steps: int, episodes: Episodes
    ) -> tuple[Batch, Tensor]:
        """Act for *n_steps* from *obs_ED*. Return what to learn from, and where it led."""
        shape = n_steps, envs.num_envs
        rollout = Rollout(torch.zeros(*shape, obs_ED.shape[1]), self.actor.blank(*shape))
        noise_TEA = self.actor.noise(*shape, generator=self.luck)
        for t in range(n_steps):
            action_E = self.actor.act(obs_ED, noise_TEA[t])
            rollout.obs_TED[t], rollout.action_TE[t] = obs_ED, action_E
            obs, reward_E, terminated_E, truncated_E, info = envs.step(self.actor.for_env(action_E))
            done_E = terminated_E | truncated_E
            obs_ED = self.obs_scale.learn(obs)
            rollout.reward_TE[t] = self.reward_scale.learn(reward_E, done_E)
            rollout.done_TE[t] = done_E
            cut_E = truncated_E & ~terminated_E
            if cut_E.any():
                reached = np.stack(info["final_obs"][cut_E])
                rollout.after_TE[t, cut_E] = self._value(self.obs_scale(reached))
            episodes.add(reward_E, done_E)
        return self._batch(rollout, obs_ED), obs_ED

    def _batch(self, rollout: Rollout, obs_ED: Tensor) -> Batch:
        obs_BD, action = rollout.obs_TED.flatten(0, 1), rollout.action_TE.flatten(0, 1)
        value_TE = self._value(obs_BD).reshape(rollout.done_TE.shape)
        advantage_TE = rollout.advantages(
            value_TE, self._value(obs_ED), self.config.discount, self.config.gae_lambda
        )
        return Batch(
            obs_BD,
            action,
            self.actor.judge(obs_BD, action)[0],
            torch.from_numpy(advantage_TE).flatten(),
            torch.from_numpy(advantage_TE + value_TE).flatten(),
        )

    def _value(self, obs_BD: Tensor) -> NDArray[Any]:
        value_B: NDArray[Any] = self.critic(obs_BD).squeeze(-1).numpy()
        return value_B

    def _improve(self, batch: Batch, lr: float, clip: float) -> Iterator[tuple[float, bool]]:
        """Yield, after each minibatch, its loss, and whether it was the last of the rollout."""
        config = self.config
        n_parts = math.ceil(len(batch.obs_BD) / config.minibatch)
        for epoch in range(1, config.epochs + 1):
            parts = minibatches(batch, config.minibatch, self.order)
            for i, part in enumerate(parts, 1):
                policy_loss, value_loss, entropy = self._losses(part, clip)
                loss = policy_loss + config.value_coef * value_loss - config.entropy_coef * entropy
                loss.backward()  # type: ignore[no-untyped-call]
                self.adam.step(lr, config.max_grad_norm)
                self.updates += 1
                last = i == n_parts and (epoch == config.epochs or self._is_far_from(batch))
                yield loss.item(), last
            if last:
                return

    def _losses(self, batch: Batch, clip: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return what to minimise for the actor and for the critic, and the entropy."""
        log_prob_B, entropy = self.actor.judge(batch.obs_BD, batch.action)
        advantage_B = batch.advantage_B
        if self.config.normalize_advantage and len(advantage_B) > 1:
            std, mean = torch.std_mean(advantage_B)
            advantage_B = (advantage_B - mean) / (std + 1e-8)
        ratio_B = torch.exp(log_prob_B - batch.log_prob_B)
        value_B = self.critic(batch.obs_BD).squeeze(-1)
        value_loss = torch.nn.functional.mse_loss(value_B, batch.return_B)
        return -surrogate(ratio_B, advantage_B, clip), value_loss, entropy

    def _is_far_from(self, batch: Batch) -> bool:
        target = self.config.target_kl
        return target is not None and divergence(self._log_ratio(batch)) > 1.5 * target

    @torch.no_grad()
    def _log_ratio(self, batch: Batch) -> Tensor:
        log_prob_B, _ = self.actor.judge(batch.obs_BD, batch.action)
        return log_prob_B - batch.log_prob_B

    @torch.no_grad()
    def _assess(self, batch: Batch, clip: float) -> dict[str, float]:
        """Return what has become of a whole rollout by learning from it."""
        policy_loss, value_loss, entropy = self._losses(batch, clip)
        log_ratio_B = self._log_ratio(batch)
        metrics = {
            "policy_loss": policy_loss.item(),
            "value_loss": value_loss.item(),
            "entropy": entropy.item(),
            "approx_kl": divergence(log_ratio_B),
            "clip_fraction": (log_ratio_B.expm1().abs() > clip).float().mean().item(),
        }
        spread = batch.return_B.var(correction=0).item()
        if spread > 0:  # else there is nothing to explain
            # By the critic as it was before: its errors are the advantages.
            error = batch.advantage_B.var(correction=0).item()
            metrics["explained_variance"] = 1 - error / spread
        return metrics

    def policies(self) -> Mapping[str, Policy]:
        return {"ppo": GreedyPolicy(self.actor, self.obs_scale)}

    def save(self, folder: Path) -> None:
        luck = {"luck": self.luck.get_state(), "order": self.order.get_state()}
        groups = {name: part.state() for name, part in self._parts().items()}
        save_groups({**groups, "generators": luck}, folder / "ppo.safetensors")
        (folder / "ppo.json").write_bytes(msgspec.json.encode({"updates": self.updates}))

    def load(self, folder: Path) -> None:
        groups = load_groups(folder / "ppo.safetensors")
        for name, part in self._parts().items():
            part.load(groups[name])
        self.luck.set_state(groups["generators"]["luck"])
        self.order.set_state(groups["generators"]["order"])
        self.updates = msgspec.json.decode((folder / "ppo.json").read_bytes())["updates"]

    def _parts(self) -> dict[str, Adam | Moments]:
        """Return what has a state; Adam's holds the weights."""
        moments = {"obs": self.obs_scale.moments, "reward": self.reward_scale.moments}
        return {"adam": self.adam, **moments}


def surrogate(ratio_B: Tensor, advantage_B: Tensor, clip: float) -> Tensor:
    """Return what the actor maximises: Schulman et al. 2017, equation 7."""
    clipped_B = ratio_B.clamp(1 - clip, 1 + clip)
    return torch.min(ratio_B * advantage_B, clipped_B * advantage_B).mean()


def divergence(log_ratio_B: Tensor) -> float:
    """Estimate KL(old || new) from log(new / old) of actions of the old policy.

    Unbiased and never negative (Schulman 2020, "Approximating KL Divergence").
    """
    return (log_ratio_B.expm1() - log_ratio_B).mean().item()


def scheduled(value: float, schedule: Schedule, left: float) -> float:
    """Return *value* when the share *left* of the task is still to come."""
    return value * left if schedule == "linear" else value
