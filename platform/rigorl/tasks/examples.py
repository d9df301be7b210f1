"""Tasks that consist of labelled examples: some to learn from, others for exams.

Such a task is an environment like any other (an episode is one input, the action its class, the
reward 1 if it was right), so every agent can learn it. An exam is all that was held out, and its
score the share of right answers.

Shapes: N examples, D numbers of an input.
"""

import importlib
from contextlib import closing
from functools import cache, lru_cache
from typing import Any, NamedTuple, cast

import gymnasium as gym
import msgspec
import numpy as np
from gymnasium.spaces import Box, Discrete
from msgspec.structs import replace
from numpy.typing import NDArray

from rigorl.seeds import integer
from rigorl.spec import TaskSpec

gym.register("rigorl/Digits-v0", "rigorl.tasks.digits:Digits")


class Examples(NamedTuple):
    """Inputs, and the class of each."""

    input_ND: NDArray[np.float32]
    label_N: NDArray[np.int64]


class Supervised(gym.Env[NDArray[np.float32], np.int64]):
    """What an environment must be to count as such a task. It must take `split`, a seed.

    *examples* are to be learned from, *held_out* for exams; `split` says which are which, and is
    drawn by the trial's seed where the task's kwargs are silent.
    """

    def __init__(self, examples: Examples, held_out: Examples, space: Box, classes: int) -> None:
        self.examples, self.held_out = examples, held_out
        self.observation_space, self.action_space = space, Discrete(classes)
        self._label = -1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        at = self.np_random.integers(len(self.examples.label_N))
        self._label = int(self.examples.label_N[at])
        return self.examples.input_ND[at].copy(), {}

    def step(
        self, action: np.int64
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        after_D = np.zeros(self.observation_space.shape or (), np.float32)
        return after_D, float(action == self._label), True, False, {}


def drawn(task: TaskSpec, seed: int) -> TaskSpec:
    """Return *task* as it is in a trial with root *seed*: who is held out is drawn by that."""
    if "split" in task.kwargs or not is_supervised(task):
        return task
    return replace(task, kwargs={**task.kwargs, "split": integer(seed, "split")})


def is_supervised(task: TaskSpec) -> bool:
    """Say whether *task* consists of examples."""
    kind = _kind(task.env)
    return isinstance(kind, type) and issubclass(kind, Supervised)


def opened(task: TaskSpec) -> Supervised | None:
    """Return *task* if it consists of examples, else None."""
    return _opened(msgspec.msgpack.encode(task, order="deterministic"))


@lru_cache(maxsize=32)
def _opened(text: bytes) -> Supervised | None:
    task = msgspec.msgpack.decode(text, type=TaskSpec)
    if not is_supervised(task):
        return None
    with closing(gym.make(task.env, disable_env_checker=True, **task.kwargs)) as env:
        return cast("Supervised", env.unwrapped)


@cache
def _kind(env: str) -> Any:
    """Return the class of the environment, where it is registered with one."""
    module, _, name = env.rpartition(":")
    if module:
        importlib.import_module(module)
    spec = gym.registry.get(name)
    if spec is None or not isinstance(spec.entry_point, str):
        return spec and spec.entry_point
    module, _, attribute = spec.entry_point.partition(":")
    return getattr(importlib.import_module(module), attribute)
