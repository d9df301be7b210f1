"""RLlib algorithms as agents: `agent: {name: rigorl.outside.rllib, config: {algorithm: PPO}}`.

It keeps the same contract as an algorithm of the house, so nothing else knows that RLlib
exists. RLlib opens its own environments (with our tasks in them) and counts an update a training
iteration. At a checkpoint and at a switch networks and optimisers go on, while a replay buffer,
connectors and RLlib's own counters begin anew: off-policy algorithms want a large
`checkpoint_every`. So it is `inexact`: a resumed run is not, to the bit, the uninterrupted one.
"""

import copy
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from gymnasium.spaces import Box
from msgspec import Struct
from numpy.typing import NDArray
from ray.rllib.algorithms import Algorithm
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.utils.spaces.space_utils import unsquash_action
from ray.tune.error import TuneError
from ray.tune.registry import get_trainable_cls, register_env

from rigorl.contract import Crew, Progress, Span
from rigorl.errors import SpecError
from rigorl.outside.on_ray.cluster import connect
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_env
from rigorl.tasks.world import Policy, World, WorldSpec

inexact = True
ENV = "rigorl-task"


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """`training` and `env_runners` go to RLlib's config as they are."""

    algorithm: str = "PPO"
    training: dict[str, Any] = {}
    env_runners: dict[str, Any] = {}


def make(config: Config, world: WorldSpec, seed: int) -> "Rllib":
    try:
        get_trainable_cls(config.algorithm)
    except TuneError as error:
        raise SpecError(
            f"algorithm must be one that RLlib has, but is {config.algorithm!r}; "
            "try PPO, SAC, DQN, IMPALA or APPO",
            "$.config.algorithm",
        ) from error
    agent = Rllib(config, world, seed)
    try:
        agent.configured(world.tasks[0]).validate()
    except (TypeError, ValueError, AttributeError) as error:
        raise SpecError(
            f"settings must be such as RLlib's {config.algorithm} takes, but: "
            f"{' '.join(str(error).split())[:300]}; see its AlgorithmConfig",
            "$.config",
        ) from error
    return agent


def load_policy(folder: Path) -> "ModulePolicy":
    """RLlib's own format; it unpickles, so load only what you trust."""
    module = RLModule.from_checkpoint(str((folder / "module").absolute()))
    normalised = msgspec.json.decode((folder / "rllib.json").read_bytes(), type=bool)
    return ModulePolicy(module, normalised=normalised)


class Rllib:
    def __init__(self, config: Config, world: WorldSpec, seed: int) -> None:
        self.config, self.world, self.seed = config, world, seed
        self.updates = 0
        self.algorithm: Any = None
        self._saved: str | None = None

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        del crew
        before = self.algorithm
        connect()  # else RLlib would join whatever Ray runs on this machine
        self.algorithm = self.configured(world.task).build_algo()
        if before is not None:
            _carry_over(before.learner_group.get_state(), self.algorithm)
            before.stop()
        elif self._saved is not None:
            old = Algorithm.from_checkpoint(self._saved)
            _carry_over(old.learner_group.get_state(), self.algorithm)
            old.stop()
        step = span.start
        while step < span.stop:
            result = self.algorithm.train()
            self.updates += 1
            sampled = int(result["env_runners"]["num_env_steps_sampled_lifetime"])
            step = min(span.stop, span.start + sampled)
            yield Progress(step, self.updates, _metrics(result))

    def configured(self, task: TaskSpec) -> Any:
        """Return RLlib's configuration for *task*."""
        register_env(ENV, _open)
        config = get_trainable_cls(self.config.algorithm).get_default_config()
        return (
            config.environment(ENV, env_config={"task": msgspec.to_builtins(task)})
            .env_runners(
                num_env_runners=0,
                num_envs_per_env_runner=self.world.num_envs,
                **self.config.env_runners,
            )
            .training(**self.config.training)
            .debugging(seed=self.seed, log_level="ERROR")
        )

    def policies(self) -> Mapping[str, Policy]:
        module = copy.deepcopy(self.algorithm.get_module())
        normalised = bool(self.algorithm.config.normalize_actions)
        return {"greedy": ModulePolicy(module, normalised=normalised)}

    def save(self, folder: Path) -> None:
        if self.algorithm is not None:
            self.algorithm.save_to_path(str((folder / "rllib").absolute()))
        (folder / "rllib.json").write_bytes(msgspec.json.encode(self.updates))

    def load(self, folder: Path) -> None:
        self.updates = msgspec.json.decode((folder / "rllib.json").read_bytes(), type=int)
        if (folder / "rllib").exists():
            kept = tempfile.mkdtemp(prefix="rigorl-rllib-")  # the checkpoint may go before `learn`
            Algorithm.from_checkpoint(str((folder / "rllib").absolute())).save_to_path(kept)
            self._saved = kept


class ModulePolicy:
    """The mean or most likely action of an RLlib module."""

    def __init__(self, module: Any, *, normalised: bool) -> None:
        self.module, self.normalised = module, normalised

    @torch.no_grad()
    def __call__(self, obs: NDArray[Any], /) -> NDArray[Any]:
        inputs = {"obs": torch.as_tensor(obs, dtype=torch.float32)}
        found = self.module.forward_inference(inputs)
        if "actions" in found:  # a value-based module decides by itself
            return np.asarray(found["actions"].numpy())
        kind = self.module.get_inference_action_dist_cls()
        action = kind.from_logits(found["action_dist_inputs"]).to_deterministic().sample().numpy()
        space = self.module.action_space
        if isinstance(space, Box):
            action = unsquash_action(action, space) if self.normalised else action
            action = np.clip(np.asarray(action, space.dtype), space.low, space.high)
        return np.asarray(action)

    def save(self, folder: Path) -> None:
        self.module.save_to_path(str((folder / "module").absolute()))
        (folder / "rllib.json").write_bytes(msgspec.json.encode(self.normalised))


def _open(env_config: Mapping[str, Any]) -> Any:
    return open_env(msgspec.convert(env_config["task"], TaskSpec))


def _carry_over(learned: Any, algorithm: Any) -> None:
    """Give *algorithm*, built for another task, the networks and optimisers of before."""
    algorithm.learner_group.set_state(learned)
    algorithm.env_runner_group.sync_weights(
        from_worker_or_learner_group=algorithm.learner_group, inference_only=True
    )


def _metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Return RLlib's losses and its own view of the return, where it has one already."""
    learner = result.get("learners", {}).get("default_policy", {})
    found = {f"rllib/{key}": value for key, value in learner.items() if "loss" in key}
    episodes = result.get("env_runners", {}).get("episode_return_mean")
    if episodes is not None and np.isfinite(episodes):
        found["train/return"] = episodes
    return {key: float(value) for key, value in found.items() if np.ndim(value) == 0}
