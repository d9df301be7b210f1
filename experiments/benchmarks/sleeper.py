"""An agent that learns nothing and takes its time over it. Needs neither torch nor MuJoCo."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from rigorl.contract import Crew, Progress, Span
from rigorl.tasks.world import Policy, World, WorldSpec


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    seconds: float = 1.0
    """For all steps of a task together."""


def make(config: Config, world: WorldSpec, seed: int) -> "Sleeper":
    del world, seed
    return Sleeper(config)


def load_policy(folder: Path) -> "Still":
    del folder
    return Still()


class Sleeper:
    def __init__(self, config: Config) -> None:
        self.config = config

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        del world, crew
        for step in range(span.start + 1, span.stop + 1):
            time.sleep(self.config.seconds / span.stop)
            yield Progress(step, step)

    def policies(self) -> Mapping[str, Policy]:
        return {"still": Still()}

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


class Still:
    def __call__(self, obs: NDArray[Any], /) -> NDArray[Any]:
        return np.zeros(len(obs), np.int64)

    def save(self, folder: Path) -> None: ...
