"""Seeker: walks towards what earns most, and forgets where it was. Learns without torch.

It can be asked to misbehave: to report NaN, to raise, or to kill its process once.
"""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from rigorl.contract import Crew, Progress, Span
from rigorl.errors import SpecError
from rigorl.seeds import stream
from rigorl.tasks.world import Policy, World, WorldSpec

IN_FLIGHT = frozenset({"rate", "noise", "nan_at"})


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    rate: float = 0.1
    noise: float = 0.01
    every: int = 2
    """Every so many updates a yield is safe."""
    nan_at: int = -1
    raise_at: int = -1
    die_at: int = -1
    scar: str = ""
    pause: float = 0.0
    """Seconds that an update takes, so that a test can aim."""

    def __post_init__(self) -> None:
        if self.rate > 1:
            raise ValueError(f"rate must be at most 1, but is {self.rate}")


def make(config: Config, world: WorldSpec, seed: int) -> "Seeker":
    if world.observation.shape != (1,):
        raise SpecError("seeker needs a task with one number to see; try helpers.worlds:Target-v0")
    return Seeker(config, seed)


def load_policy(folder: Path) -> "Constant":
    return Constant(msgspec.json.decode((folder / "constant.json").read_bytes(), type=float))


class Seeker:
    def __init__(self, config: Config, seed: int) -> None:
        self.config = config
        self.rng = np.random.default_rng(stream(seed, "seek"))
        self.at, self.updates = 0.0, 0

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        if world.given:
            self.at = world.given["constant"].at  # type: ignore[attr-defined]
        world.envs.reset()
        n = world.envs.num_envs
        for step in range(span.start + n, span.stop + 1, n):
            tried = self.at + self.config.noise * self.rng.normal(size=n)
            actions = np.clip(tried, -1, 1)[:, None].astype(np.float32)
            _, reward, *_ = world.envs.step(actions)
            target = world.task.kwargs.get("target", 0.5)
            self.at += self.config.rate * (target - self.at)
            self.updates += 1
            time.sleep(self.config.pause)
            self._misbehave(step)
            loss = float("nan") if self.updates == self.config.nan_at else float(-reward.mean())
            safe = self.updates % self.config.every == 0 or step == span.stop
            yield Progress(step, self.updates, {"loss": loss}, safe)

    def _misbehave(self, step: int) -> None:
        if self.updates == self.config.raise_at:
            raise ZeroDivisionError(f"a bug at step {step}")
        if self.updates == self.config.die_at:
            if not self.config.scar:
                os._exit(1)  # each time
            if not Path(self.config.scar).exists():
                Path(self.config.scar).touch()
                os._exit(1)

    def policies(self) -> Mapping[str, Policy]:
        return {"constant": Constant(self.at)}

    def save(self, folder: Path) -> None:
        state = [self.at, self.updates, self.rng.bit_generator.state]
        (folder / "seeker.json").write_bytes(msgspec.json.encode(_big(state)))

    def load(self, folder: Path) -> None:
        at, updates, rng = msgspec.json.decode((folder / "seeker.json").read_bytes())
        self.at, self.updates = at, updates
        rng["state"] = {key: int(value) for key, value in rng["state"].items()}
        self.rng.bit_generator.state = rng


def _big(state: list[Any]) -> list[Any]:
    """JSON has no integers of 128 bits here: they travel as text."""
    at, updates, rng = state
    return [at, updates, rng | {"state": {k: str(v) for k, v in rng["state"].items()}}]


class Constant:
    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self, obs: NDArray[Any], /) -> NDArray[Any]:
        return np.full((len(obs), 1), np.clip(self.at, -1, 1), np.float32)

    def save(self, folder: Path) -> None:
        (folder / "constant.json").write_bytes(msgspec.json.encode(self.at))
