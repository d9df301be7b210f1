"""A stop waits for checkpoints that would come anyway, and not for ever."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from conftest import tiny
from rigorl import experiment
from rigorl.errors import Stopped
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess, Memory
from rigorl.outside.signals import Stop
from rigorl.trial import Beat, Event, Trial

SPEC = tiny(
    budget={"steps": 40, "exam_every": 10, "exam_episodes": 1, "checkpoint_every": 20},
    seeds={"test": [0]},
)


class Signalling(Memory):
    """A journal at whose n-th event a signal comes."""

    def __init__(self, at: int, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.left, self.number = at, number
        self.events: list[Event] = []

    def record(self, trials: Sequence[Trial], events: Sequence[Event]) -> None:
        super().record(trials, events)
        self.events += events
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


def stopped(journal: Memory, stop: Stop, storage: Path | None = None) -> int:
    with stop.listening(), pytest.raises(Stopped) as caught, stop.gently():
        experiment.run(SPEC, InProcess(storage, stop), journal, optuna_ask.ask)
    return caught.value.signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_at_the_next_checkpoint_and_goes_on_from_there(
    number: int, tmp_path: Path
) -> None:
    journal = Signalling(2, number)
    assert stopped(journal, Stop(), tmp_path) == number
    last = journal.events[-1]
    assert isinstance(last, Beat)
    assert (last.saved, last.step) == (True, 20)
    whole = Memory()
    verdict = experiment.run(SPEC, InProcess(), whole, optuna_ask.ask)
    assert experiment.run(SPEC, InProcess(tmp_path), journal, optuna_ask.ask) == verdict
    assert journal.told == whole.told


def test_it_does_not_wait_longer_than_its_patience() -> None:
    journal = Signalling(2)
    stopped(journal, Stop(patience=0.0))
    assert len(journal.events) == 2
    assert not any(isinstance(event, Beat) and event.saved for event in journal.events)


def test_the_second_signal_is_obeyed_at_once() -> None:
    class Twice(Signalling):
        def record(self, trials: Sequence[Trial], events: Sequence[Event]) -> None:
            super().record(trials, events)
            if self.left == -1:
                os.kill(os.getpid(), signal.SIGTERM)

    journal = Twice(1)
    assert stopped(journal, Stop(patience=1e9)) == signal.SIGTERM
    assert journal.left == -1


def test_where_nothing_is_to_be_saved_the_first_signal_is_obeyed_at_once() -> None:
    with Stop().listening(), pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Stop().listening():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
