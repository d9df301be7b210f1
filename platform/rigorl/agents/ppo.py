"""PPO: proximal policy optimisation with a clipped surrogate. Schulman et al. 2017.

The details are those of Stable-Baselines3 (Raffin et al. 2021), and so are the defaults, save
that observations and rewards are normalised. `experiments/benchmarks/ppo_vs_sb3.py` compares
the two.

Shapes: T steps of a rollout, E environments, B batch, D observation, A action.
"""

import math
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

import msgspec
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from msgspec import Meta, Struct
from numpy.typing import NDArray

from rigorl.blocks.actor_critic import Terms, assessed, divergence, judged
from rigorl.blocks.actors import make_actor
from rigorl.blocks.adam import Adam
from rigorl.blocks.continual import Chosen, finetune, is_plain
from rigorl.blocks.device import choose
from rigorl.blocks.greedy import GreedyPolicy, load_policy
from rigorl.blocks.nets import mlp
from rigorl.blocks.normalize import Moments, ObsScale, RewardScale
from rigorl.blocks.parallel import check, muster
from rigorl.blocks.ppo_student import Taught
from rigorl.blocks.rollout import Batch, Episodes, Rollout, minibatches
from rigorl.blocks.shards import Lesson, assemble
from rigorl.blocks.storage import load_groups, save_groups
from rigorl.contract import Crew, Progress, Span
from rigorl.errors import SpecError
from rigorl.seeds import integer
from rigorl.tasks.world import Envs, Policy, World, WorldSpec

__all__ = ["PPO", "Config", "load_policy", "make"]

Array = NDArray[Any]
Count = Annotated[int, Meta(gt=0)]
Positive = Annotated[float, Meta(gt=0)]
Coefficient = Annotated[float, Meta(ge=0)]
Unit = Annotated[float, Meta(ge=0, le=1)]
Schedule = Literal["constant", "linear"]
IN_FLIGHT = frozenset(
    {
        "lr",
        "lr_schedule",
        "n_steps",
        "minibatch",
        "epochs",
        "discount",
        "gae_lambda",
        "clip",
        "clip_schedule",
        "entropy_coef",
        "value_coef",
        "max_grad_norm",
        "target_kl",
        "adam_eps",
        "normalize_advantage",
        "obs_clip",
        "reward_clip",
    }
)
"""Settings that may change while it learns: what it saves does not rest on them."""


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
    backward: Literal["written", "autograd"] = "written"
    """Gradients written out in NumPy, or torch's: the same to rounding, and four times as fast.
    On a GPU they are torch's."""
    learners: Count = 1
    """Shards of each minibatch, whose gradients are added: in processes of the trial's crew, if
    it has one, else one after another in this process, with the same result."""
    reset_optimizer_at_switch: bool = False
    """Whether Adam forgets its moments when another task begins."""
    method: Chosen = finetune.Config()
    """Against forgetting (`blocks/continual`). What is remembered of a task is chosen from its
    last two rollouts since a checkpoint; a memory whose share is larger stays that much smaller."""
    keep_obs_scale: bool = False
    """Whether observations are scaled from the second task on as they were at the first one's
    end. Else what an agent does changes with the scale, though its weights may not."""


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
    fault = check(config.learners, world.crew)
    if fault:
        raise SpecError(fault, "$.config.learners")
    if config.learners > 1 and not is_plain(config.method):
        raise SpecError(
            f"learners must be 1 with a method against forgetting, but is {config.learners}; "
            "leave it out, or the method",
            "$.config.learners",
        )
    return PPO(config, math.prod(obs.shape), action, seed, choose(world.gpus))


def _is_real_box(space: Any) -> TypeGuard[Box]:
    return isinstance(space, Box) and np.issubdtype(space.dtype, np.floating)


class PPO:
    def __init__(
        self,
        config: Config,
        n_obs: int,
        action: Box | Discrete[Any],
        seed: int,
        device: torch.device,
    ) -> None:
        self.config = config
        weights, self.luck, self.order = (
            torch.Generator().manual_seed(integer(seed, name))
            for name in ("weights", "luck", "order")
        )
        self.actor = make_actor(action, n_obs, config.hidden, weights, config.log_std_init)
        self.critic = mlp([n_obs, *config.hidden, 1], 1.0, weights)
        # Born on the CPU, with the same weights wherever it lives.
        self.actor.to(device)
        self.critic.to(device)
        self.learner = assemble(
            self.actor,
            self.critic,
            Terms(config.value_coef, config.entropy_coef, config.normalize_advantage),
            config.adam_eps,
            written=config.backward == "written" and device.type == "cpu",
        )
        self.flat, self.adam, self.net = self.learner[-3:]
        self.obs_scale = ObsScale(n_obs, config.obs_clip, on=config.normalize_obs)
        self.taught = (
            None
            if is_plain(config.method)
            else Taught(self.learner, self.obs_scale, config.method, seed)
        )
        self.reward_scale = RewardScale(
            config.discount, config.reward_clip, on=config.normalize_reward
        )
        self.updates = 0

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        config, envs = self.config, world.envs
        if span.start == 0 and span.stage > 0 and config.reset_optimizer_at_switch:
            self.adam.forget()
        self.obs_scale.kept = config.keep_obs_scale and span.stage > 0
        self.reward_scale.begin(envs.num_envs)
        episodes = Episodes(envs.num_envs)
        obs_ED = self.obs_scale.learn(envs.reset()[0])
        step, lived = span.start, deque[Batch[Array]](maxlen=2 if self.taught else 0)
        while step < span.stop:
            left = 1 - step / span.stop
            lr = scheduled(config.lr, config.lr_schedule, left)
            clip = scheduled(config.clip, config.clip_schedule, left)
            n_steps = min(config.n_steps, math.ceil((span.stop - step) / envs.num_envs))
            batch, obs_ED = self._collect(envs, obs_ED, n_steps, episodes)
            lived.append(batch)
            step = min(step + n_steps * envs.num_envs, span.stop)
            lesson = Lesson(config.minibatch, lr, clip, config.max_grad_norm)
            with closing(self._improve(batch, lesson, crew)) as improving:
                for loss, last in improving:
                    metrics = {"loss": loss}
                    if last:
                        metrics |= {"lr": lr} | assessed(self.net, batch, clip) | episodes.summary()
                    yield Progress(step, self.updates, metrics, safe=last)
        if self.taught:
            self.taught.end_task(lived, span.stage)

    def _collect(
        self, envs: Envs, obs_ED: Array, n_steps: int, episodes: Episodes
    ) -> tuple[Batch[Array], Array]:
        """Act for *n_steps* from *obs_ED*. Return what to learn from, and where it led."""
        shape = n_steps, envs.num_envs
        obs_TED = np.zeros((*shape, obs_ED.shape[1]), np.float32)
        rollout = Rollout(obs_TED, self.actor.blank(*shape))
        noise_TEA = self.actor.noise(*shape, generator=self.luck).numpy()
        for t in range(n_steps):
            action_E = self.net.act(obs_ED, noise_TEA[t])
            rollout.obs_TED[t], rollout.action_TE[t] = obs_ED, action_E
            obs, reward_E, terminated_E, truncated_E, info = envs.step(self.actor.for_env(action_E))
            done_E = terminated_E | truncated_E
            obs_ED = self.obs_scale.learn(obs)
            rollout.reward_TE[t] = self.reward_scale.learn(reward_E, done_E)
            rollout.done_TE[t] = done_E
            cut_E = truncated_E & ~terminated_E
            if cut_E.any():
                reached = np.stack(info["final_obs"][cut_E])
                rollout.after_TE[t, cut_E] = self.net.value(self.obs_scale(reached))
            episodes.add(reward_E, done_E)
        batch = judged(self.net, rollout, obs_ED, self.config.discount, self.config.gae_lambda)
        return batch, obs_ED

    def _improve(
        self, batch: Batch[Array], lesson: Lesson, crew: Crew
    ) -> Generator[tuple[float, bool]]:
        """Yield, after each minibatch, its loss, and whether it was the last of the rollout."""
        config, net, (minibatch, lr, clip, max_norm) = self.config, self.net, lesson
        held, size = net.hold(batch), len(batch.return_B)
        n_parts = math.ceil(size / minibatch)
        alone = nullcontext(self.taught) if self.taught else None
        with alone or muster(config.learners, crew, self.learner, lesson, batch) as team:
            for epoch in range(1, config.epochs + 1):
                order_B = net.order(team.tell(torch.randperm(size, generator=self.order)))
                for i, part in enumerate(minibatches(held, minibatch, order_B), 1):
                    losses = team.gradient(part, clip)
                    self.adam.step([self.flat.grad], lr, max_norm)
                    self.updates += 1
                    last = i == n_parts and (epoch == config.epochs or self._is_far_from(batch))
                    if not last:
                        yield net.terms.total(losses), False
                if last:
                    break
        yield net.terms.total(losses), True  # safe: nobody follows any more

    def _is_far_from(self, batch: Batch[Array]) -> bool:
        target = self.config.target_kl
        if target is None:
            return False
        log_prob_B = self.net.log_prob(batch.obs_BD, batch.action)
        return divergence(log_prob_B - batch.log_prob_B) > 1.5 * target

    def policies(self) -> Mapping[str, Policy]:
        return {"ppo": GreedyPolicy(self.actor, self.obs_scale)}

    def save(self, folder: Path) -> None:
        luck = {"luck": self.luck.get_state(), "order": self.order.get_state()}
        groups = {name: part.state() for name, part in self._parts().items()}
        nets = {"weights": self.flat.weights}
        save_groups({**groups, "nets": nets, "generators": luck}, folder / "ppo.safetensors")
        (folder / "ppo.json").write_bytes(msgspec.json.encode({"updates": self.updates}))

    def load(self, folder: Path) -> None:
        groups = load_groups(folder / "ppo.safetensors")
        for name, part in self._parts().items():
            part.load(groups[name])
        self.flat.weights.copy_(groups["nets"]["weights"])
        self.luck.set_state(groups["generators"]["luck"])
        self.order.set_state(groups["generators"]["order"])
        self.updates = msgspec.json.decode((folder / "ppo.json").read_bytes())["updates"]

    def _parts(self) -> dict[str, Adam | Moments | Taught]:
        """Return what has a state of its own, beside weights and generators."""
        moments = {"obs": self.obs_scale.moments, "reward": self.reward_scale.moments}
        method = {"method": self.taught} if self.taught else {}
        return {"adam": self.adam, **moments, **method}


def scheduled(value: float, schedule: Schedule, left: float) -> float:
    """Return *value* when the share *left* of the task is still to come."""
    return value * left if schedule == "linear" else value
