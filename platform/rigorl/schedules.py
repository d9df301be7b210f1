"""Settings that change while an agent learns: a schedule says which, and from which step on.

A change takes effect at a checkpoint, and makes one: at the first safe yield at which the trial
has made that many steps. One that changes nothing makes its checkpoint all the same, so that
another trial can go on from there with other settings.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

from msgspec import Meta

SCHEDULE = "schedule"
"""Under this name a schedule stands among what a search chose."""
Change = tuple[Annotated[int, Meta(gt=0)], dict[str, Any]]
"""Environment steps since the trial began, and what is set from there on."""


class Shorter(NamedTuple):
    """A schedule without its last change, and the step at which that came."""

    schedule: tuple[Change, ...]
    steps: int


def check(schedule: Sequence[Change]) -> None:
    """Refuse, by `ValueError`, a schedule whose steps do not rise."""
    steps = [step for step, _ in schedule]
    if any(a >= b for a, b in pairwise(steps)):
        raise ValueError(
            f"the steps of a schedule must rise, but are {', '.join(map(str, steps))}; put its "
            "changes in order, and those of one step together"
        )


def at(config: Mapping[str, Any], schedule: Sequence[Change], steps: int) -> dict[str, Any]:
    """Return the settings that hold once *steps* were made."""
    settings = dict(config)
    for step, change in schedule:
        if step <= steps:
            settings |= change
    return settings


def shorter(schedule: Sequence[Change]) -> Shorter | None:
    """Return *schedule* as it was before its last change; None if it changes nothing."""
    for i in reversed(range(len(schedule))):
        step, change = schedule[i]
        if change:
            return Shorter((*schedule[:i], (step, {}), *schedule[i + 1 :]), step)
    return None


def said(config: Mapping[str, Any]) -> dict[str, str]:
    """Return what a search chose as a person reads it: each setting, and what becomes of it."""
    changes: dict[str, list[str]] = {}
    for step, change in config.get(SCHEDULE, ()):
        for name, value in change.items():
            changes.setdefault(name, []).append(f"{_short(value)} from step {step:,}")
    return {
        name: _short(value) + (f" ({', '.join(changes[name])})" if name in changes else "")
        for name, value in config.items()
        if name != SCHEDULE
    }


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
