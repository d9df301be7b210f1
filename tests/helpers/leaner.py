"""Leaner: learns nothing, acts at random, and pushes one way, half as hard or as hard as it may."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from gymnasium.spaces import Box
from msgspec import Struct
from numpy.typing import NDArray

from rigorl.contract import Crew, Progress, Span
from rigorl.tasks.world import Policy, World, WorldSpec


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    newtons: float = 20.0


def make(config: Config, world: WorldSpec, seed: int) -> "Leaner":
    assert isinstance(world.action, Box)
    return Leaner(config.newtons, world.forces, world.action.shape[0])


def load_policy(folder: Path) -> "Lean":
    return Lean(*msgspec.json.decode((folder / "lean.json").read_bytes()))


class Leaner:
    def __init__(self, newtons: float, forces: int, actions: int) -> None:
        self.leans = {
            name: Lean(share * newtons, forces, actions)
            for name, share in (("attack-0@0.50", 0.5), ("attack-0@1.00", 1.0), ("nominal", 0.0))
        }

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        yield Progress(span.stop, 0)

    def policies(self) -> Mapping[str, Policy]:
        return dict(self.leans)

    def save(self, folder: Path) -> None:
        """Nothing was learned."""

    def load(self, folder: Path) -> None:
        """Nothing is restored."""


class Lean:
    def __init__(self, newtons: float, forces: int, actions: int) -> None:
        self.newtons, self.forces, self.actions = newtons, forces, actions
        self.rng = np.random.default_rng(0)

    def __call__(self, obs: NDArray[Any], /) -> NDArray[Any]:
        return self.rng.uniform(-0.3, 0.3, (len(obs), self.actions)).astype(np.float32)

    def push(self, obs: NDArray[Any], /) -> NDArray[Any]:
        return np.full((len(obs), self.forces), self.newtons / np.sqrt(self.forces))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Lean":
        return Lean(self.newtons, self.forces, self.actions)

    def save(self, folder: Path) -> None:
        content = [self.newtons, self.forces, self.actions]
        (folder / "lean.json").write_bytes(msgspec.json.encode(content))
