"""Uniform: acts at random. The arm that every other arm has to beat."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from gymnasium.spaces import Box, Discrete
from msgspec import Struct
from numpy.typing import NDArray

from rigorl.contract import Crew, Progress, Span
from rigorl.errors import SpecError
from rigorl.seeds import stream
from rigorl.tasks.world import Policy, World, WorldSpec


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing to set."""


def make(_: Config, world: WorldSpec, seed: int) -> "Uniform":
    action = world.action
    if isinstance(action, Discrete):
        return Uniform(RandomPolicy(int(action.n), None, None, seed, int(action.start)))
    if isinstance(action, Box) and action.is_bounded():
        return Uniform(RandomPolicy(0, action.low, action.high, seed))
    raise SpecError(f"uniform needs a Discrete or a bounded Box action, but it is {action}")


def load_policy(folder: Path) -> "RandomPolicy":
    count, low, high, seed, start = msgspec.json.decode((folder / "uniform.json").read_bytes())
    bounds = [None if x is None else np.asarray(x, np.float32) for x in (low, high)]
    return RandomPolicy(count, bounds[0], bounds[1], seed, start)


class Uniform:
    def __init__(self, policy: "RandomPolicy") -> None:
        self.policy = policy

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        del world, crew
        yield Progress(span.stop, 0)

    def policies(self) -> Mapping[str, Policy]:
        return {"uniform": self.policy}

    def save(self, folder: Path) -> None:
        """Nothing was learned."""

    def load(self, folder: Path) -> None:
        """Nothing is restored."""


class RandomPolicy:
    """Its stream of actions begins anew with each copy, as `Policy` asks."""

    def __init__(
        self,
        count: int,
        low: NDArray[Any] | None,
        high: NDArray[Any] | None,
        seed: int,
        start: int = 0,
    ) -> None:
        self.count, self.low, self.high, self.seed, self.start = count, low, high, seed, start
        self.rng = np.random.default_rng(stream(seed, "uniform"))

    def __call__(self, obs: NDArray[Any], /) -> NDArray[Any]:
        if self.low is None or self.high is None:
            return self.start + self.rng.integers(self.count, size=len(obs))
        action = self.rng.uniform(self.low, self.high, (len(obs), *self.low.shape))
        return action.astype(self.low.dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> "RandomPolicy":
        del memo
        return RandomPolicy(self.count, self.low, self.high, self.seed, self.start)

    def save(self, folder: Path) -> None:
        bounds = [None if x is None else x.tolist() for x in (self.low, self.high)]
        content = [self.count, *bounds, self.seed, self.start]
        (folder / "uniform.json").write_bytes(msgspec.json.encode(content))
