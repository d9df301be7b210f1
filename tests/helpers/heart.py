"""Heart: learns examples by heart, and knows nothing else."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from rigorl.contract import Crew, Progress, Span
from rigorl.tasks.examples import Examples
from rigorl.tasks.world import Policy, World, WorldSpec


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    pass


def make(config: Config, world: WorldSpec, seed: int) -> "Heart":
    del config, world, seed
    return Heart()


def load_policy(folder: Path) -> "Knowing":
    known = msgspec.msgpack.decode((folder / "known").read_bytes(), type=dict[bytes, int])
    return Knowing(known)


class Knowing:
    """Answers by heart, and -1 where it does not know."""

    def __init__(self, known: Mapping[bytes, int]) -> None:
        self.known = dict(known)
        self.seen = 0

    def __call__(self, obs: NDArray[Any], /) -> NDArray[Any]:
        self.seen += len(obs)
        return np.array([self.known.get(image.tobytes(), -1) for image in obs])

    def save(self, folder: Path) -> None:
        (folder / "known").write_bytes(msgspec.msgpack.encode(self.known))


def by_heart(known: Examples) -> Knowing:
    return Knowing({x.tobytes(): int(label) for x, label in zip(*known, strict=True)})


class Heart:
    def __init__(self) -> None:
        self.policy = Knowing({})

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        del crew
        assert world.examples is not None
        self.policy.known |= by_heart(world.examples).known
        yield Progress(span.stop, 1)

    def policies(self) -> Mapping[str, Policy]:
        return {"heart": self.policy}

    def save(self, folder: Path) -> None:
        self.policy.save(folder)

    def load(self, folder: Path) -> None:
        self.policy = load_policy(folder)
