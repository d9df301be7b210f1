"""What happens in the process of a trial, whoever asked for it."""

import gc
import time
import traceback
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from rigorl.contract import Crew
from rigorl.errors import CrewError
from rigorl.examining import Exams
from rigorl.outside.in_process import Alone, pulses
from rigorl.outside.on_ray.crew import RayCrew
from rigorl.outside.on_ray.deaths import Death, cause, last_words, leave_words
from rigorl.outside.on_ray.items import of_deaths
from rigorl.resources import ExamSpec, Needs, Strategy
from rigorl.trial import Beat, Bundle, Event, Failure

TOGETHER = 0.05
"""Seconds for which what happens may be held back, to be told at once with what follows."""
LATELY, LATER = 30.0, 5.0
"""Seconds before and after a learner misses a member of its crew in which this one died."""
FRAMES = 2
"""Of a traceback, so many of the last lines are told."""
encode = msgspec.msgpack.Encoder().encode
events = msgspec.msgpack.Decoder(list[Event]).decode


class Terms(NamedTuple):
    """On which terms the trials of a study are played: where they keep things, what each needs.

    `needs` holds what the processes of one trial need: of its learner, then of the `crew`, then
    of those that take its exams.
    """

    storage: str
    needs: tuple[Needs, ...] = (Needs(),)
    strategy: Strategy = "PACK"
    exam: ExamSpec = ExamSpec()
    crew: int = 0


class Hands(NamedTuple):
    """Who works beside a learner: its crew, and who takes its exams."""

    crew: Crew
    exams: Exams


def hands(terms: Terms) -> Hands:
    """Return who works for the trials that this process plays; their bundles come after ours."""
    own, exam = terms.crew, terms.exam
    crew = RayCrew(own, terms.needs[1], 1) if own else Alone()
    if not exam.crew:
        return Hands(crew, Exams(Alone()))  # an exam may come while the crew is at work
    examiners = RayCrew(exam.crew, terms.needs[1], 1 + own, bounded=False)
    return Hands(crew, Exams(examiners, exam.backlog))


def dismiss(hands: Hands) -> None:
    """End all who work beside the learner."""
    for crew in (hands.crew, hands.exams.crew):
        if isinstance(crew, RayCrew):
            crew.close()


def tell(order: bytes, terms: Terms, hands: Hands) -> Generator[list[Event]]:
    """Play the bundle of *order*, and yield what happens. A bug in an agent is told as well."""
    bundle = msgspec.msgpack.decode(order, type=Bundle)
    _tidy()
    words = _words(terms, bundle)
    if words:
        leave_words(words)
    try:
        yield from pulses(bundle, terms.storage, *hands, together=TOGETHER)
    except CrewError as error:  # somebody died: it is tried again
        raise of_deaths(error, _deaths(hands)) from error
    except Exception as error:  # noqa: BLE001  a mistake ends its own bundle and no other
        yield [failure(bundle, f"{type(error).__name__}: {error}{_where(error)}")]
    if words:
        words.unlink(missing_ok=True)


def _tidy() -> None:
    """Free what the bundle before left, and take what stays for good, as modules do.

    Else Python looks through all of it after so many bundles: that takes 50 ms, in each worker,
    and in all of them at the same moment, for they have done the same.
    """
    gc.collect()
    gc.freeze()


def _deaths(hands: Hands) -> list[Death]:
    """Return what members died of just now: a learner that misses one hears of it first."""
    crews = [crew for crew in (hands.crew, hands.exams.crew) if isinstance(crew, RayCrew)]
    until = time.monotonic() + LATER
    while True:
        found = [death for crew in crews for death in crew.deaths(LATELY)]
        if found or time.monotonic() > until:
            return found
        time.sleep(TOGETHER)


def is_saved(told: Sequence[Event]) -> bool:
    """Say whether what is *told* ends at a checkpoint."""
    return isinstance(told[-1], Beat) and told[-1].saved


def death(error: BaseException, terms: Terms, bundle: Bundle) -> Death:
    """Return what the worker of *bundle* died of, by what Ray says and by what it left behind.

    What it left is taken away: the next one may die before it can leave anything.
    """
    words = _words(terms, bundle)
    said = last_words(words) if words else ""
    if words and said:
        words.unlink(missing_ok=True)
    return cause(error, said)


def _words(terms: Terms, bundle: Bundle) -> Path | None:
    """Return the file in which native code says where it crashed; none in a bucket."""
    return None if "://" in terms.storage else Path(terms.storage) / bundle.id / "last-words"


def failure(bundle: Bundle, cause: str) -> Failure:
    return Failure(trial=bundle.id, stage=0, step=0, cause=cause, lasting=False)


def _where(error: Exception) -> str:
    """Return ` (agents/ppo.py:12 in learn, blocks/dense.py:34 in forward)`."""
    lines = [
        f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)[-FRAMES:]
    ]
    return f" ({', '.join(lines)})" if lines else ""
