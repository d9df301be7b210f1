"""Chart: keeps several policies, and learns to sail further and faster at once."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from rigorl.contract import Crew, Progress, Span
from rigorl.tasks.world import Policy, World, WorldSpec


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    policies: int = 3
    rate: float = 0.1


def make(config: Config, world: WorldSpec, seed: int) -> "Chart":
    return Chart(config)


def load_policy(folder: Path) -> "Course":
    return Course(*msgspec.json.decode((folder / "course.json").read_bytes(), type=list[float]))


class Chart:
    """Policy n of N goes in direction n / (N - 1), at a speed that all learn."""

    def __init__(self, config: Config) -> None:
        self.config, self.speed, self.updates = config, 0.0, 0

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        for step in range(span.start + 1, span.stop + 1):
            self.speed += self.config.rate * (1 - self.speed)
            self.updates += 1
            yield Progress(step, self.updates)

    def policies(self) -> Mapping[str, Policy]:
        last = max(self.config.policies - 1, 1)
        return {f"p{n}": Course(n / last, self.speed) for n in range(self.config.policies)}

    def save(self, folder: Path) -> None:
        (folder / "chart.json").write_bytes(msgspec.json.encode([self.speed, self.updates]))

    def load(self, folder: Path) -> None:
        self.speed, self.updates = msgspec.json.decode((folder / "chart.json").read_bytes())


class Course:
    def __init__(self, direction: float, speed: float) -> None:
        self.direction, self.speed = direction, speed

    def __call__(self, obs: NDArray[Any], /) -> NDArray[Any]:
        return np.full((len(obs), 2), [self.direction, self.speed], np.float32)

    def save(self, folder: Path) -> None:
        (folder / "course.json").write_bytes(msgspec.json.encode([self.direction, self.speed]))
