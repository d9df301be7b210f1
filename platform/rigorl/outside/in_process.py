"""The smallest world: this process, this memory. For tests, and for a debugger."""

import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from rigorl import search
from rigorl.checkpoint import try_out
from rigorl.contract import Crew
from rigorl.errors import DivergedError
from rigorl.examining import Exams
from rigorl.lockstep import play
from rigorl.outside import bucket
from rigorl.outside.signals import Stop
from rigorl.plan import Agenda
from rigorl.search import Standing
from rigorl.spec import Experiment
from rigorl.trial import (
    Beat,
    Bundle,
    Event,
    Failure,
    Report,
    Start,
    Trial,
    Trouble,
    Waiting,
)

Config = Mapping[str, Any]
I = TypeVar("I")  # noqa: E741
R = TypeVar("R")
V = TypeVar("V")
PULSE = 1.0
"""Seconds between two beats of one bundle."""


class Alone:
    """A crew of nobody: work is done where it is asked for, and at once."""

    size = 0

    def share(self, value: V) -> V:
        return value

    def submit(self, function: Callable[[I], R], item: I) -> "Future[R]":
        future: Future[R] = Future()
        future.set_result(function(item))
        return future

    def map(self, function: Callable[[I], R], items: Iterable[I]) -> Iterator[R]:
        return map(function, items)


class InProcess:
    """A cluster of one. A mistake in an agent comes out as it is, for the debugger to see."""

    def __init__(self, storage: Path | str | None = None, stop: Stop | None = None) -> None:
        self.storage, self.stop = storage, stop or Stop()

    def play(
        self, agenda: Agenda, record: Callable[[Sequence[Trial], Sequence[Event]], None]
    ) -> None:
        if self.storage and not agenda.over:
            try_out(bucket.opened(self.storage, bucket.AT_FIRST))
        while not self.stop.asked and (bundle := agenda.take()) is not None:
            for events in pulses(bundle, self.storage):
                record(bundle.trials, events)
                self.stop.note(events)
                if self.stop.is_due([bundle]):
                    self.stop.end()
            agenda.settle(bundle)
        self.stop.end()


def pulses(
    bundle: Bundle,
    storage: Path | str | None,
    crew: Crew | None = None,
    exams: Exams | None = None,
    together: float = 0.0,
) -> Generator[list[Event]]:
    """Play *bundle* and yield what happens: beats once in a while, all else at once.

    A beat that tells of a checkpoint is not held back: then a stop costs least. A report that
    comes within *together* seconds of others may be, but only to go with the next event.
    """
    held: list[Event] = []
    store = bucket.opened(storage) if storage else None
    told = time.monotonic()
    for event in play(bundle, crew or Alone(), store, exams):
        quiet = isinstance(event, Beat) and not event.saved
        since = time.monotonic() - told
        if not quiet or since >= PULSE:
            held.append(event)
        if held and (since >= together or not (quiet or isinstance(event, Report))):
            yield held
            held, told = [], time.monotonic()
    if held:
        yield held


class Memory:
    """A journal that forgets when you leave."""

    def __init__(self) -> None:
        self.trials: dict[str, Trial] = {}
        self.failed: dict[str, Failure] = {}
        self.told: dict[str, dict[tuple[int, int, int], Report]] = {}
        self.asked: dict[str, dict[int, Config]] = {}

    def begin(
        self, spec: Experiment, codes: Mapping[str, str] | None = None, *, accept: bool = False
    ) -> None:
        del spec, codes, accept  # this memory is not older than this process and its code
        self.failed = {trial: f for trial, f in self.failed.items() if f.lasting}

    def record(self, trials: Sequence[Trial], events: Sequence[Event]) -> None:
        self.trials.update({trial.id: trial for trial in trials})
        for event in events:
            match event:
                case Failure():
                    self.failed[event.trial] = event
                case Report():
                    self._insert_or_compare(event)
                case Beat() | Start() | Trouble() | Waiting():
                    pass

    def _insert_or_compare(self, report: Report) -> None:
        told = self.told.setdefault(report.trial, {})
        key = report.stage, report.step, report.update
        if told.setdefault(key, report) != report and report.exact:
            raise DivergedError(
                f"a report must be the same whenever it is made, but {report.trial} differs at "
                f"stage, step, update {key}; its agent is not deterministic"
            )

    def reports(self, trials: Collection[str]) -> Mapping[str, Sequence[Report]]:
        return {trial: list(self.told[trial].values()) for trial in trials if trial in self.told}

    def standings(self, study: str) -> Mapping[str, Standing]:
        return {
            id_: Standing(
                {
                    report.rung: search.value(trial, report)
                    for report in self.told.get(id_, {}).values()
                    if report.rung is not None
                },
                any(report.finished for report in self.told.get(id_, {}).values()),
                self.failed.get(id_),
            )
            for id_, trial in self.trials.items()
            if trial.experiment == study
        }

    def propose(self, study: str, search_id: str, number: int, config: Config) -> None:
        del study
        self.asked.setdefault(search_id, {})[number] = config

    def proposed(self, search_id: str) -> Mapping[int, Config]:
        return dict(self.asked.get(search_id, {}))
