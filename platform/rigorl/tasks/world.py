"""What an agent learns from, and what it is told of it beforehand."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import msgspec
from gymnasium.vector import VectorEnv
from msgspec import Struct
from numpy.typing import NDArray

from rigorl.errors import TrialFailed
from rigorl.spec import TaskSpec
from rigorl.tasks.examples import Examples

POLICY = "policy.json"
DIVERGED = "rigorl/diverged"
"""Key of an `info`: the step was not believed, and its episode is over."""
Envs = VectorEnv[Any, Any, Any]
"""A batch of environments, resetting themselves within the step that ends an episode:
`final_obs` of `info` then holds the true last observation."""


class Policy(Protocol):
    """A batch of observations in, a batch of actions out.

    A policy stands alone: it holds neither the agent nor its optimiser. Randomness it may
    have is its own and begins anew with each copy, so that an exam can be played again.
    """

    def __call__(self, obs: NDArray[Any], /) -> NDArray[Any]: ...

    def save(self, folder: Path) -> None:
        """Write what `load_policy(folder)` of the same module reads."""


def save_policy(policy: Policy, folder: Path) -> None:
    """Write *policy* so that `load_policy` brings it back without its agent."""
    folder.mkdir(parents=True)
    policy.save(folder)
    (folder / POLICY).write_bytes(msgspec.json.encode({"module": type(policy).__module__}))


def load_policy(folder: Path) -> Policy:
    """Return the policy that `save_policy` wrote into *folder*."""
    module = msgspec.json.decode((folder / POLICY).read_bytes())["module"]
    policy: Policy = importlib.import_module(module).load_policy(folder)
    return policy


@runtime_checkable
class Pusher(Policy, Protocol):
    """A policy that disturbs the world it acts in."""

    def push(self, obs: NDArray[Any], /) -> NDArray[Any]:
        """Return force_EF for the step to come, asked before the action is."""


class Port(Protocol):
    """Where a batch of environments can be disturbed.

    `size` numbers make a disturbance, whose norm is at most `limit`.
    """

    size: int
    limit: float

    def push(self, force_EF: NDArray[Any]) -> None:
        """Let forces act throughout the next step, and no longer; a reset forgets them."""


@dataclass(frozen=True)
class WorldSpec:
    """What is known of a world before it is opened. All tasks of a trial share it.

    With `given`, policies of another trial come with it. `gpus` are what the trial may use,
    and `crew` the members of its crew, where that is known. `examples`: tasks consist of those.
    `forces` are the numbers of a disturbance, 0 where there is no port.
    """

    observation: gym.Space[Any]
    action: gym.Space[Any]
    num_envs: int
    tasks: tuple[TaskSpec, ...]
    given: bool = False
    gpus: float = 0.0
    crew: int = 0
    examples: bool = False
    forces: int = 0


class Tally(Struct):
    """Episodes that ended on a task, in learning and in exams, and how many of them by divergence.

    It is saved with a run.
    """

    episodes: int = 0
    diverged: int = 0

    def add(self, task: TaskSpec, episodes: int, diverged: int) -> None:
        """Count; raise `TrialFailed` if more diverged than *task* allows, of a hundred at least."""
        self.episodes += episodes
        self.diverged += diverged
        if self.diverged > task.diverged * max(self.episodes, 100) + 1e-9:
            raise TrialFailed(
                f"at most {100 * task.diverged:g} % of the episodes may diverge, of a hundred at "
                f"least, but {self.diverged} of {self.episodes} did on task {task.name!r}: a "
                "simulation came apart, or an observation or reward was not finite; tame the "
                "task's physics and kwargs, lower the policy's learning rate, or raise `diverged`"
            )


@dataclass(frozen=True)
class World:
    """What an agent learns from: environments, and what else its task gives.

    `given` holds the final policies of the trial that this one is built on (`after:`), `examples`
    what a task of labelled examples has to be learned from.
    """

    task: TaskSpec
    envs: Envs
    dataset: Any = None
    given: Mapping[str, Policy] = field(default_factory=dict)
    examples: Examples | None = None
    port: Port | None = None

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()
