"""Frozen: examines the policies of another arm's trial, and learns nothing.

The placebo of continual evaluation: min-ACC is a minimum over many noisy exams (De Lange, van
de Ven, Tuytelaars 2023), and a policy that does not change shows how low noise alone takes it.
Its arm says whose policies they are: `after: <arm>`. Exams follow the budget's schedule.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from rigorl.contract import Crew, Progress, Span
from rigorl.errors import SpecError
from rigorl.tasks.world import Policy, World, WorldSpec


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """A pause, a chance to be examined, comes every `pause` environment steps.

    It counts as `updates` updates: as many as the placebo's peer makes in that time.
    """

    pause: Annotated[int, Meta(gt=0)] = 1_000
    updates: Annotated[int, Meta(ge=0)] = 1


def make(config: Config, world: WorldSpec, seed: int) -> "Frozen":
    del seed
    if not world.given:
        raise SpecError("frozen must come after another arm; add `after: <arm>` to its arm")
    return Frozen(config)


class Frozen:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.given: Mapping[str, Policy] = {}
        self.updates = 0

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        del crew
        self.given = world.given
        step = span.start
        while step < span.stop:
            step = min(step + self.config.pause, span.stop)
            for made in range(1, self.config.updates + 1):
                self.updates += 1
                yield Progress(step, self.updates, safe=made == self.config.updates)
            if not self.config.updates:
                yield Progress(step, self.updates)

    def policies(self) -> Mapping[str, Policy]:
        return self.given

    def save(self, folder: Path) -> None:
        (folder / "frozen.json").write_bytes(msgspec.json.encode(self.updates))

    def load(self, folder: Path) -> None:
        self.updates = msgspec.json.decode((folder / "frozen.json").read_bytes(), type=int)
