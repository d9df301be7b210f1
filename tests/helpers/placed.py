"""A seeker that leaves word of where it plays: node, devices, and the nodes of its whole group."""

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import ray
from msgspec import Struct

from helpers import seeker
from helpers.seeker import Seeker, load_policy
from rigorl.tasks.world import WorldSpec

PATIENCE = 60.0
__all__ = ["Config", "Place", "load_policy", "make", "places"]


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    folder: str
    together: int = 1
    """Nobody goes on before so many have begun."""
    pause: float = 0.0


class Place(NamedTuple):
    node: str
    devices: str
    group: dict[int, str]
    process: int


def make(config: Config, world: WorldSpec, seed: int) -> Seeker:
    if ray.is_initialized() and os.environ.get("RAY_JOB_ID"):
        _leave_word(Path(config.folder), seed)
        _wait_for(config.together, Path(config.folder))
    return seeker.make(seeker.Config(pause=config.pause), world, seed)


def _leave_word(folder: Path, seed: int) -> None:
    group = ray.util.get_current_placement_group()
    table: dict[str, Any] = ray.util.placement_group_table(group) if group else {}
    where = Place(
        ray.get_runtime_context().get_node_id(),
        os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        table.get("bundles_to_node_id", {}),
        os.getpid(),
    )
    name = f"{seed}-{time.monotonic_ns()}"
    (folder / f".{name}").write_bytes(msgspec.msgpack.encode(where))
    (folder / f".{name}").rename(folder / name)


def _wait_for(others: int, folder: Path) -> None:
    end = time.monotonic() + PATIENCE
    while len(places(folder)) < others:
        assert time.monotonic() < end, f"only {len(places(folder))} of {others} began"
        time.sleep(0.02)


def places(folder: Path) -> list[Place]:
    """Return where trials began, in that order."""
    words = sorted(
        (path for path in folder.iterdir() if not path.name.startswith(".")),
        key=lambda path: int(path.name.partition("-")[2]),
    )
    return [msgspec.msgpack.decode(path.read_bytes(), type=Place) for path in words]
