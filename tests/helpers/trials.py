"""A tiny trial of two tasks, and what its events say. Checkpoints fall at 16, 32 and 40 steps."""

from collections.abc import Iterable
from typing import Any

import msgspec

from rigorl.spec import AgentSpec, Budget, TaskSpec
from rigorl.trial import Beat, Event, Report, Trial

HALF = TaskSpec(name="half", env="helpers.worlds:Target-v0", kwargs={"target": 0.5})
MINUS = TaskSpec(name="minus", env="helpers.worlds:Target-v0", kwargs={"target": -0.5})


def trial(seed: int = 0, config: dict[str, Any] | None = None, **changes: Any) -> Trial:
    parts: dict[str, Any] = {
        "experiment": "tiny",
        "arm": "seeker",
        "phase": "test",
        "agent": AgentSpec(name="helpers.seeker", config=config or {}),
        "tasks": (HALF, MINUS),
        "budget": Budget(steps=40, exam_every=10, exam_episodes=2, checkpoint_every=15),
        "seed": seed,
    }
    return Trial(**{**parts, **changes})


def reports(events: Iterable[Event]) -> list[Report]:
    return [event for event in events if isinstance(event, Report)]


def encoded(events: Iterable[Event]) -> list[bytes]:
    """Return the reports among *events* as bytes, each once, in the order of their making."""
    told = {(r.stage, r.step, r.update): msgspec.msgpack.encode(r) for r in reports(events)}
    return [told[key] for key in sorted(told)]


def until_saved(events: Iterable[Event], times: int) -> list[Event]:
    """Return *events* up to the beat of checkpoint number *times*, from 1 on."""
    told: list[Event] = []
    for event in events:
        told.append(event)
        times -= isinstance(event, Beat) and event.saved
        if not times:
            break
    return told
