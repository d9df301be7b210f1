"""A policy that is pushed as is written down, and not by anybody who looks.

Shapes: B batch, F numbers of a force.
"""

import copy
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from rigorl.tasks import world as worlds
from rigorl.tasks.world import Policy, save_policy

Array = NDArray[Any]


class Script(Struct, frozen=True):
    """A force: from step `at` on for so many `steps`; or, with a `period`, as a sine throughout."""

    force: tuple[float, ...]
    at: int = 0
    steps: int = 0
    period: int | None = None

    def share(self, step: int) -> float:
        """Return how much of the force there is at *step*, counted from 0."""
        if self.period is not None:
            return math.sin(2 * math.pi * step / self.period)
        return float(self.at <= step < self.at + self.steps)


class Scripted:
    """The *victim* acts. Steps are counted by the calls of `push`; a copy begins anew."""

    def __init__(self, victim: Policy, script: Script) -> None:
        self.victim, self.script, self.step = victim, script, 0

    def __call__(self, obs: Array, /) -> Array:
        return self.victim(obs)

    def push(self, obs: Array, /) -> Array:
        share, self.step = self.script.share(self.step), self.step + 1
        return np.tile(np.array(self.script.force) * share, (len(obs), 1))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Scripted":
        return Scripted(copy.deepcopy(self.victim, memo), self.script)

    def save(self, folder: Path) -> None:
        save_policy(self.victim, folder / "victim")
        (folder / "scripted.json").write_bytes(msgspec.json.encode(self.script))


def load_policy(folder: Path) -> Scripted:
    """Return the policy that `Scripted.save` wrote into *folder*."""
    script = msgspec.json.decode((folder / "scripted.json").read_bytes(), type=Script)
    return Scripted(worlds.load_policy(folder / "victim"), script)
