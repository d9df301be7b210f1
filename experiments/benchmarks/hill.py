"""A hill of eleven settings that takes its time, as a function and as an agent of it.

Its settings and their ranges are those of PPO. It notes when it was at work, in the file that
`HILL_NOTES` names: process and thread, first step, last step.
"""

import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from rigorl.contract import Crew, Progress, Span
from rigorl.cube import place
from rigorl.space import Choice, Integer, Real, Space
from rigorl.tasks.world import Policy, World, WorldSpec

NOTES = "HILL_NOTES"
TOP, MOST = 0.5, 1.4
"""What the world `Target-v0` wants; and how far from it one can be."""
SPACE: Space = {
    "lr": Real(low=1e-6, high=1e-2, log=True),
    "batch": Choice(of=(16, 32, 64, 128)),
    "n_steps": Choice(of=(256, 512, 1024, 2048, 4096)),
    "epochs": Integer(low=5, high=20),
    "gae": Real(low=0.8, high=0.9999),
    "clip": Real(low=0.0, high=0.5),
    "clip_vf": Real(low=0.0, high=0.5),
    "normalise": Choice(of=(True, False)),
    "entropy": Real(low=0.0, high=0.5),
    "vf": Real(low=0.0, high=1.0),
    "max_grad": Real(low=0.0, high=1.0),
}


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    seconds: float = 1.0
    lr: float = 3e-4
    batch: int = 64
    n_steps: int = 2048
    epochs: int = 10
    gae: float = 0.95
    clip: float = 0.2
    clip_vf: float = 0.2
    normalise: bool = True
    entropy: float = 0.0
    vf: float = 0.5
    max_grad: float = 0.5


def climb(config: Mapping[str, Any], seconds: float) -> float:
    """Return what *config* is worth, 0 at best, after so many *seconds*."""
    start = time.time()
    time.sleep(seconds)
    far = math.fsum((place(over, config[name]) - 0.7) ** 2 for name, over in SPACE.items())
    with Path(os.environ[NOTES]).open("a") as notes:
        notes.write(f"{os.getpid()}.{threading.get_native_id()} {start} {time.time()}\n")
    return -min(math.sqrt(far), MOST)


def make(config: Config, world: WorldSpec, seed: int) -> "Climber":
    del world, seed
    return Climber(config)


def load_policy(folder: Path) -> "Constant":
    return Constant(float((folder / "action").read_text()))


class Climber:
    def __init__(self, config: Config) -> None:
        self.config, self.value = config, -MOST

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        del world, crew
        self.value = climb(structs.asdict(self.config), self.config.seconds)
        yield Progress(span.stop, 1)

    def policies(self) -> Mapping[str, Policy]:
        return {"constant": Constant(TOP + self.value)}

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


class Constant:
    """Acts as far from the target as its configuration is from the top of the hill."""

    def __init__(self, action: float) -> None:
        self.action = action

    def __call__(self, obs: NDArray[Any], /) -> NDArray[Any]:
        return np.full((len(obs), 1), self.action, np.float32)

    def save(self, folder: Path) -> None:
        (folder / "action").write_text(repr(self.action))
