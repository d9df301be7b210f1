"""What travels between machines: orders (Trial, Bundle) and answers (the events)."""

import hashlib
from functools import cached_property
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from rigorl.alarms import AlarmSpec
from rigorl.schedules import shorter
from rigorl.searches import BY_SCORE, Measure
from rigorl.spec import AgentSpec, Budget, TaskSpec

Phase = Literal["tune", "test", "scale"]
"""To choose by, to be judged by, or to learn what counts as 0 and 1 on a task."""


class Trial(Struct, frozen=True, kw_only=True, dict=True):
    """One agent, one configuration, one seed, one budget. Complete in itself."""

    experiment: str
    arm: str
    phase: Phase
    agent: AgentSpec
    tasks: tuple[TaskSpec, ...]
    budget: Budget
    seed: int
    after: str | None = None
    """Id of the trial whose final policies this one is given."""
    alarm: AlarmSpec | None = None
    """Set where it changes what the trial does."""

    @cached_property
    def id(self) -> str:
        """The same order always has the same id: running it twice is a no-op."""
        return fingerprint(self)

    @property
    def before_last_change(self) -> "tuple[Trial, int] | None":
        """The trial that this one is like up to a step, and that step, counted from its start."""
        short = shorter(self.agent.schedule)
        if short is None:
            return None
        agent = replace(self.agent, schedule=short.schedule)
        return replace(self, agent=agent), short.steps


class Bundle(Struct, frozen=True, kw_only=True):
    """Trials played in lockstep on one worker: a candidate on all its seeds, or one final exam.

    `bars[r]` is what the mean of `measure` over the trials must reach at rung r to go on.
    """

    trials: tuple[Trial, ...]
    bars: dict[int, float] = {}
    measure: Measure = BY_SCORE

    @property
    def id(self) -> str:
        """Bundles of one study share all their trials or none: the first tells them apart."""
        return self.trials[0].id


class Start(Struct, frozen=True, kw_only=True, tag="start"):
    """A trial is taken up, newborn or from a checkpoint. Never part of a result.

    `note` says which checkpoints were corrupt, why, and where it went on from instead.
    """

    trial: str
    stage: int
    step: int
    host: str
    note: str = ""
    rungs: int = 0
    """Regular exams that were told, and are not told again now: the journal must have them."""


class Score(Struct, frozen=True, array_like=True):
    """One policy's exam on one task. `returns` is episode x objective."""

    task: str
    policy: str
    returns: tuple[tuple[float, ...], ...]


class Report(Struct, frozen=True, kw_only=True, tag="report"):
    """What an agent could do at one moment: a function of the trial, and of nothing else.

    `step` counts environment steps of this stage, `update` optimiser steps since birth.
    `rung` numbers the regular exams; an exam between them has none.
    """

    trial: str
    stage: int
    step: int
    update: int
    rung: int | None
    stage_ended: bool
    finished: bool
    metrics: dict[str, float]
    scores: tuple[Score, ...]
    exact: bool = True
    """Made again, it is the same to the bit. Agents that say `inexact` do not promise that."""


class Beat(Struct, frozen=True, kw_only=True, tag="beat"):
    """A sign of life between reports. Never part of a result.

    `saved`: the run stands at a checkpoint, or has ended, so to stop it now costs nothing.
    """

    trial: str
    stage: int
    step: int
    update: int
    seconds: dict[str, float] = {}
    """What this attempt has spent so far on "learn", "exam" and "checkpoint"."""
    saved: bool = False


class Failure(Struct, frozen=True, kw_only=True, tag="failure"):
    """Why a trial will never finish. `lasting`: playing it again would end the same way."""

    trial: str
    stage: int
    step: int
    cause: str
    lasting: bool
    alarm: bool = False
    """Its alarm ended it, as was asked for."""


class Trouble(Struct, frozen=True, kw_only=True, tag="trouble"):
    """An attempt ended badly, through no fault of what was asked for; the trial is tried again."""

    trial: str
    cause: str


class Waiting(Struct, frozen=True, kw_only=True, tag="waiting"):
    """Why a trial that could be played is not: what is short, and where. Never part of a result."""

    trial: str
    cause: str


Event = Start | Report | Failure | Beat | Trouble | Waiting
LATER: tuple[tuple[set[str], dict[str, Any]], ...] = (
    ({"env"}, {"engine": "auto", "vary": {}, "diverged": 0.01, "port": None, "robot": None}),
    ({"kind", "low", "high", "log"}, {"when": {}, "levels": None}),
    ({"kind", "of"}, {"when": {}}),
    ({"keep", "grace"}, {"kind": "curve", "eta": 3, "p": 0.1}),
    ({"name", "config"}, {"schedule": ()}),
    ({"arm", "phase", "budget"}, {"alarm": None}),
)
"""Fields that tasks, agents and dimensions have had since rigorl 0.1 was first used, and their
defaults, after those that they always had."""


def fingerprint(what: Any) -> str:
    """Return a short name for the content of *what*, the same on every machine."""
    content = _without_later(msgspec.to_builtins(what, order="deterministic"))
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:16]


def _without_later(content: Any) -> Any:
    """Return *content* as it was before some parts had more fields, where these say nothing.

    What was played before they came is still known by its name.
    """
    if isinstance(content, dict):
        kinds = (new for old, new in LATER if content.keys() >= old | new.keys())
        later = next(kinds, {})
        return {
            key: _without_later(value)
            for key, value in content.items()
            if key not in later or value != later[key]
        }
    if isinstance(content, list | tuple):
        return [_without_later(part) for part in content]
    return content
