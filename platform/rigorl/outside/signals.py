"""Ctrl-C and its kin: asked once, to end at a good moment; asked twice, now."""

import logging
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rigorl.errors import Stopped
from rigorl.trial import Beat, Bundle, Event, Report

PATIENCE = 20.0
"""Seconds that a stop waits, at most, for checkpoints that would have come anyway."""
log = logging.getLogger("rigorl")


def stop_myself() -> None:
    """Do to this process, from any of its threads, what SIGTERM does."""
    os.kill(os.getpid(), signal.SIGTERM)


class Stop:
    """What a signal has asked for, and whether the moment is good."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self.signal: int | None = None
        self._gentle = False
        self._until = 0.0
        self._saved: set[str] = set()
        """Trials with a checkpoint made since the signal, or with nothing left to save."""
        self._finished: set[str] = set()

    @property
    def asked(self) -> bool:
        return self.signal is not None

    def note(self, events: Sequence[Event]) -> None:
        """Take note of what trials say."""
        for event in events:
            if isinstance(event, Beat) and event.saved:
                self._saved.add(event.trial)
            elif isinstance(event, Report) and event.finished:
                self._finished.add(event.trial)

    def is_due(self, playing: Iterable[Bundle]) -> bool:
        """Say whether to end now: little would be lost of what is *playing*, or time is up."""
        if not self.asked:
            return False
        safe = self._saved | self._finished
        late = time.monotonic() > self._until
        return late or all(trial.id in safe for bundle in playing for trial in bundle.trials)

    def end(self) -> None:
        """Raise `Stopped`, if it was asked for."""
        if self.signal is not None:
            raise Stopped(self.signal)

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        """Turn SIGINT and SIGTERM into `Stopped`; within `gently`, at a good moment."""
        both = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._hear) for number in both}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def gently(self) -> Iterator[None]:
        self._gentle = True
        try:
            yield
        finally:
            self._gentle = False

    def _hear(self, number: int, _: Any) -> None:
        if self.asked or not self._gentle:
            raise Stopped(number)
        self.signal, self._until = number, time.monotonic() + self.patience
        self._saved.clear()
        log.warning(
            "stopping at the next checkpoint, in %.0f s at the latest; once more: now",
            self.patience,
        )
