"""What members of a crew die of, and what they make mistakes with, for tests/slow."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from helpers.crew import here, places, square_late
from rigorl.contract import Crew
from rigorl.errors import TrialFailed

# -- deaths


class Deadly(NamedTuple):
    """An item that members die of, `times` times; `tally` grows by a byte each time."""

    tally: Path
    times: int
    way: str = "kill"


def survive(item: Deadly) -> dict[str, Any]:
    with item.tally.open("ab") as file:
        file.write(b"x")
    if item.tally.stat().st_size <= item.times:
        if item.way == "wait":
            time.sleep(3600)
        if item.way == "segfault":
            ctypes.string_at(0)
        if item.way == "exit":
            sys.exit(3)
        os.kill(os.getpid(), signal.SIGKILL)
    return here()


def among_others(crew: Crew, item: Deadly) -> tuple[Any, ...]:
    """Return where the members were, what came of *item*, of others beside it, and where after."""
    before = places(crew)
    deadly = crew.submit(survive, item)
    others = list(crew.map(square_late, range(8)))
    return before, deadly.result(), others, places(crew)


def said(crew: Crew, function: Callable[[Any], Any], item: Any) -> tuple[Any, ...]:
    """Return the error that comes of *item*, that of where it was raised, and a later result."""
    error = crew.submit(function, item).exception()
    return error, str(error and error.__cause__), crew.submit(abs, -3).result()


def nodes(crew: Any, item: Deadly) -> tuple[str, str, list[Any]]:
    """Return the node of the trial, of the member that did the work in the end, and all deaths."""
    future = crew.submit(survive, item)
    jobs = list(crew._open)
    node = future.result()["node"]
    return here()["node"], node, [death for job in jobs for death in job.deaths]


class Stillborn:
    """Ray actor: cannot start."""

    def __init__(self) -> None:
        raise OSError("no such library")


# -- mistakes


class PeculiarError(Exception):
    """An error that cannot be made again from its arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")
        self.lock = threading.Lock()


class Unreadable:
    """It can be packed, and not be unpacked."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("not a number",)


def diverge(tally: Path) -> None:
    with tally.open("ab") as file:
        file.write(b"x")
    raise TrialFailed("loss must be finite, but is nan; lower the rate")


def be_peculiar(item: str) -> None:
    raise PeculiarError(item, item)


def answer_unreadably(_: Any) -> Unreadable:
    return Unreadable()


def answer_nothing_that_travels(_: Any) -> Any:
    return threading.Lock()


def share_unreadable(crew: Crew) -> tuple[Any, ...]:
    return said(crew, type, [crew.share(Unreadable())])
