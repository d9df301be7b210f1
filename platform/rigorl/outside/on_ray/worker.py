"""What happens in the process of a trial, whoever asked for it."""

import traceback
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import msgspec

from rigorl.contract import Crew
from rigorl.errors import CrewError
from rigorl.outside.in_process import Alone, pulses
from rigorl.resources import ExamSpec, Needs, Strategy
from rigorl.trial import Bundle, Event, Failure

TOGETHER = 0.05
"""Seconds for which what happens may be held back, to be told at once with what follows."""
FRAMES = 2
"""Of a traceback, so many of the last lines are told."""
encode = msgspec.msgpack.Encoder().encode
events = msgspec.msgpack.Decoder(list[Event]).decode


class Terms(NamedTuple):
    """On which terms the trials of a study are played: where they keep things, what each needs.

    `needs` holds what the processes of one trial need: of its learner, then of the `crew`, then
    of those that take its exams.
    """

    storage: Path
    needs: tuple[Needs, ...] = (Needs(),)
    strategy: Strategy = "PACK"
    exam: ExamSpec = ExamSpec()
    crew: int = 0


def crew_of(terms: Terms) -> Crew:
    """Return the crew of the trials that this process plays: its bundles come after our own."""
    del terms
    return Alone()


def tell(order: bytes, terms: Terms, crew: Crew) -> Generator[bytes]:
    """Play the bundle of *order*, and yield what happens. A bug in an agent is told as well."""
    bundle = msgspec.msgpack.decode(order, type=Bundle)
    try:
        for news in pulses(bundle, terms.storage, crew, TOGETHER):
            yield encode(news)
    except CrewError:
        raise  # somebody died: it is tried again
    except Exception as error:  # noqa: BLE001  a mistake ends its own bundle and no other
        yield encode([failure(bundle, f"{type(error).__name__}: {error}{_where(error)}")])


def failure(bundle: Bundle, cause: str) -> Failure:
    return Failure(trial=bundle.id, stage=0, step=0, cause=cause, lasting=False)


def _where(error: Exception) -> str:
    """Return ` (agents/ppo.py:12 in learn, blocks/dense.py:34 in forward)`."""
    lines = [
        f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)[-FRAMES:]
    ]
    return f" ({', '.join(lines)})" if lines else ""
