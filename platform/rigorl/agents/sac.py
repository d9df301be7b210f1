"""SAC: soft actor-critic with twin critics and a learned temperature. Haarnoja et al. 2018.

"Soft Actor-Critic Algorithms and Applications". The details are those of Stable-Baselines3
(Raffin et al. 2021), and so are the defaults; only the density of saturated actions is exact
here, where SB3 adds 1e-6 inside a logarithm. `experiments/benchmarks/sac_vs_sb3.py` compares
the two.

Shapes: E environments, B batch, D observation, A action.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

import msgspec
import numpy as np
import torch
from gymnasium.spaces import Box
from msgspec import Meta, Struct
from numpy.typing import NDArray

from rigorl.blocks.continual import Chosen, finetune, is_plain, room
from rigorl.blocks.replay import Batch, Replay
from rigorl.blocks.rollout import Episodes
from rigorl.blocks.soft import Steps
from rigorl.blocks.soft_update import On, Settings, Soft, told
from rigorl.blocks.squashed import Bounds, SquashedPolicy, act, load_policy
from rigorl.blocks.storage import load_groups, save_groups
from rigorl.contract import Crew, Progress, Span
from rigorl.errors import SpecError
from rigorl.seeds import integer, stream
from rigorl.tasks.world import Envs, Policy, World, WorldSpec

__all__ = ["SAC", "Config", "load_policy", "make"]

LARGEST = 2**40
"""Bytes of a replay: no machine has as many, and a slip of the pen does."""
STUDY = 2_560
"""Transitions of a task that importances are taken from: ten batches, as in Continual World."""
Count = Annotated[int, Meta(gt=0)]
Positive = Annotated[float, Meta(gt=0)]
Unit = Annotated[float, Meta(ge=0, le=1)]
IN_FLIGHT = frozenset(
    {
        "lr",
        "batch",
        "discount",
        "tau",
        "target_every",
        "train_every",
        "update_ratio",
        "learn_temperature",
        "target_entropy",
    }
)
"""Settings that may change while it learns: what it saves does not rest on them."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    lr: Positive = 3e-4
    batch: Count = 256
    capacity: Count = 1_000_000
    """Transitions that the replay holds; memory is taken as they come."""
    discount: Unit = 0.99
    tau: Annotated[float, Meta(gt=0, le=1)] = 0.005
    """How far the target networks go towards the critics each time."""
    target_every: Count = 1
    """Updates between two moves of the target networks."""
    learning_starts: Annotated[int, Meta(ge=0)] = 100
    """Steps at random, and without an update, at the beginning of its life."""
    train_every: Count = 1
    """Steps of each environment between two rounds of learning."""
    update_ratio: Positive = 1.0
    """Updates for each environment step, all environments counted."""
    hidden: Annotated[tuple[Count, ...], Meta(min_length=1)] = (256, 256)
    temperature: Positive = 1.0
    """Weight of the entropy, at first; for good where it is not learned."""
    learn_temperature: bool = True
    target_entropy: float | Literal["auto"] = "auto"
    """What the temperature is learned for; `auto` is minus the number of actions."""
    reset_replay_at_switch: bool = False
    """Whether the replay is emptied when another task begins."""
    reset_optimizer_at_switch: bool = False
    """Whether Adam forgets its moments when another task begins."""
    method: Chosen = finetune.Config()
    """What is done against forgetting. Old transitions in the replay are a rehearsal of their own,
    whatever the method: `reset_replay_at_switch` leaves the method alone with the task."""
    method_on: On = "actor"
    """Who learns by it. In the critics it costs more than it brings."""
    threads: Annotated[int, Meta(gt=0, le=64)] = 1
    """Of an update. More than one help on idle cores only, where two take a quarter off its time.

    Part of the result: with another number sums are added in another order.
    """


def make(config: Config, world: WorldSpec, seed: int) -> "SAC":
    obs = world.observation
    if not isinstance(obs, Box):
        raise SpecError(
            f"sac must see a Box, but the observation is {obs}; "
            "choose a task with Box observations, or flatten them in the environment"
        )
    action = world.action
    if not _is_bounded_box(action):
        raise SpecError(
            f"sac must act in a bounded Box of floats, but the action is {action}; "
            "choose a task with such actions, bound them in the environment, or take ppo"
        )
    row = 4 * (2 * math.prod(obs.shape) + math.prod(action.shape) + 2)
    if config.capacity * row > LARGEST:
        raise SpecError(
            f"capacity must fit a replay of {LARGEST // 2**30} GiB, but {config.capacity} "
            f"transitions of {row} bytes do not; lower it",
            "$.config.capacity",
        )
    if world.num_envs > config.capacity:
        raise SpecError(
            f"capacity must hold a step of all environments, but is {config.capacity} with "
            f"{world.num_envs} of them; raise it, or lower budget.num_envs",
            "$.config.capacity",
        )
    return SAC(config, math.prod(obs.shape), action, seed)


def _is_bounded_box(space: Any) -> TypeGuard[Box]:
    return isinstance(space, Box) and np.issubdtype(space.dtype, np.floating) and space.is_bounded()


class SAC:
    def __init__(self, config: Config, n_obs: int, action: Box, seed: int) -> None:
        self.config, self.seed = config, seed
        self.bounds = Bounds(action.low, action.high)
        self.n_actions = math.prod(action.shape)
        weights, self.luck = (
            torch.Generator().manual_seed(integer(seed, name)) for name in ("weights", "luck")
        )
        self.soft = Soft(
            n_obs, self.n_actions, config.hidden, math.log(config.temperature), weights
        )
        self.soft.teach(config.method, config.method_on, integer(seed, "method"))
        order = np.random.default_rng(stream(seed, "order"))
        self.replay = Replay(config.capacity, n_obs, self.n_actions, order)
        target_entropy = config.target_entropy
        if target_entropy == "auto":
            target_entropy = -float(self.n_actions)
        self.settings = Settings(
            config.lr,
            config.discount,
            config.tau,
            config.target_every,
            target_entropy if config.learn_temperature else None,
        )
        self.steps = 0
        """Environment steps since birth."""
        self.owed = 0.0
        """Updates that are due."""
        self.since = 0
        """The first transition of the task."""

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        del crew
        config, envs = self.config, world.envs
        if span.start == 0:
            if span.stage > 0:
                self._switch()
            self.since = self.replay.added
        episodes = Episodes(envs.num_envs)
        obs_ED = _flat(envs.reset()[0])
        step = span.start
        while step < span.stop:
            for _ in range(config.train_every):
                obs_ED = self._live(envs, obs_ED, episodes)
                step = min(step + envs.num_envs, span.stop)
                if step == span.stop:
                    break
            due = int(self.owed)
            self.owed -= due
            if not due:
                yield Progress(step, self.soft.updates, episodes.summary())
            for left in reversed(range(due)):
                metrics = self._improve()
                if not left:
                    metrics |= episodes.summary()
                yield Progress(step, self.soft.updates, metrics, safe=not left)
        if not is_plain(config.method):
            self._consolidate(span.stage)

    @torch.no_grad()
    def _consolidate(self, stage: int) -> None:
        """Let the methods take note that the task was learned."""
        config = self.config
        order = np.random.default_rng(stream(self.seed, "consolidate", stage))
        most = max(STUDY, room(config.method))
        steps = _steps(self.replay.choose(most, self.since, order))
        size = min(STUDY, len(steps.obs_BD))
        noise_2BA = torch.from_numpy(
            order.standard_normal((2 * size, self.n_actions), dtype=np.float32)
        )
        with _threads(config.threads):
            self.soft.consolidate(steps, noise_2BA, config.discount, stage)

    def _switch(self) -> None:
        if self.config.reset_replay_at_switch:
            self.replay.clear()
        if self.config.reset_optimizer_at_switch:
            self.soft.forget()

    @torch.no_grad()
    def _live(self, envs: Envs, obs_ED: NDArray[Any], episodes: Episodes) -> NDArray[Any]:
        """Take one step of each environment, and remember it. Return what is seen then."""
        shape = envs.num_envs, self.n_actions
        if self.steps < self.config.learning_starts:
            action_EA = torch.rand(shape, generator=self.luck) * 2 - 1
        else:
            noise_EA = torch.randn(shape, generator=self.luck)
            action_EA = act(self.soft.actor, torch.from_numpy(obs_ED), noise_EA)
        action = self.bounds.stretch(action_EA.numpy())
        obs, reward_E, terminated_E, truncated_E, info = envs.step(action)
        done_E = terminated_E | truncated_E
        seen_ED = _flat(obs)
        reached_ED = seen_ED
        if done_E.any():
            reached_ED = seen_ED.copy()
            reached_ED[done_E] = _flat(np.stack(info["final_obs"][done_E]))
        self.replay.add(obs_ED, action_EA.numpy(), reached_ED, reward_E, terminated_E)
        episodes.add(reward_E, done_E)
        self.steps += envs.num_envs
        if self.steps > self.config.learning_starts:
            self.owed += self.config.update_ratio * envs.num_envs
        return seen_ED

    @torch.no_grad()
    def _improve(self) -> dict[str, float]:
        batch = self.replay.sample(self.config.batch)
        noise_2BA = torch.randn(2 * self.config.batch, self.n_actions, generator=self.luck)
        with _threads(self.config.threads):
            return told(self.soft.update(_steps(batch), noise_2BA, self.settings))

    def policies(self) -> Mapping[str, Policy]:
        return {"sac": SquashedPolicy(self.soft.actor, self.bounds)}

    def save(self, folder: Path) -> None:
        more = {"generators": {"luck": self.luck.get_state()}}
        if not is_plain(self.config.method):
            more["task"] = {"since": torch.tensor(self.since)}
        save_groups({**self.soft.state(), **more}, folder / "sac.safetensors")
        self.replay.save(folder)
        (folder / "sac.json").write_bytes(msgspec.json.encode([self.steps, self.owed]))

    def load(self, folder: Path) -> None:
        groups = load_groups(folder / "sac.safetensors")
        self.luck.set_state(groups["generators"]["luck"])
        self.soft.load(groups)
        if "task" in groups:
            self.since = int(groups["task"]["since"])
        self.replay.load(folder)
        self.steps, self.owed = msgspec.json.decode(
            (folder / "sac.json").read_bytes(), type=tuple[int, float]
        )


def _flat(obs: NDArray[Any]) -> NDArray[Any]:
    return obs.reshape(len(obs), -1).astype(np.float32)


def _steps(batch: Batch) -> Steps:
    return Steps(*map(torch.from_numpy, batch))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch use so many threads; the rest of a trial is played with one."""
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
