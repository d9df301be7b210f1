"""Drivers that die."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rigorl.outside.in_process import InProcess
from rigorl.plan import Agenda
from rigorl.trial import Event, Trial


class Killed(Exception):  # noqa: N818
    pass


class Dying(InProcess):
    """A cluster whose driver dies at the n-th thing that it is told."""

    def __init__(self, storage: Path, after: int) -> None:
        super().__init__(storage)
        self.left = after

    def play(
        self, agenda: Agenda, record: Callable[[Sequence[Trial], Sequence[Event]], None]
    ) -> None:
        def dying(trials: Sequence[Trial], events: Sequence[Event]) -> None:
            record(trials, events)
            self.left -= 1
            if self.left == 0:
                raise Killed

        super().play(agenda, dying)
