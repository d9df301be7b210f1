"""What can go wrong.

* RigorlError            one line for a person, exit code 2
  - SpecError            the person asked for something that cannot be
  - UnknownAgent         no such algorithm in the house
  - IncompleteResults    a number was asked for that the data do not support
  - TrialFailed          a trial ended in nonsense (NaN, infinity); carries no blame for the others
  - CrewError            a member of a trial's crew was lost; the trial can be taken up again
  - StorageError         what a trial keeps cannot be written, or is not what was written
  - JournalError         the record of the study cannot be read or written
    - DivergedError      the same report came twice, with different content
  - JobError             a cluster is not there, or cannot take the study
* Stopped                a signal asked the driver to stop; not an error

Every message says the law, then the fact, then the way out:
"exam_every must be at most steps, but is 500 > 100; lower exam_every."
"""

import difflib
from collections.abc import Iterable


class RigorlError(Exception):
    """The person can mend it, and the message says how."""


class SpecError(RigorlError):
    """What was asked for cannot be. `at` is the address in the file, as `$.budget.steps`."""

    def __init__(self, message: str, at: str = "") -> None:
        super().__init__(f"{message} - at `{at}`" if at else message)
        self.message, self.at = message, at

    def below(self, prefix: str) -> "SpecError":
        """Return the same error with its address (`$...`) moved below *prefix*."""
        return SpecError(self.message, prefix + self.at.removeprefix("$"))


class UnknownAgent(SpecError):  # noqa: N818  the house's words
    """No such algorithm in the house, nor on the import path."""


class IncompleteResults(RigorlError):  # noqa: N818
    """A number was asked for that the data do not support."""


class TrialFailed(RigorlError):  # noqa: N818
    """A trial ended in nonsense; trying it again would end the same way.

    `place` is the stage and step of what failed, if that is not where the trial stands; of
    several that are played in lockstep, `trial` is the one whose exam failed.
    """

    place: tuple[int, int] | None = None
    trial: str = ""
    alarm = False
    """It was ended by its alarm."""


class CrewError(RigorlError):
    """A member of a trial's crew was lost at work. Taken up again, the trial goes on.

    `node_lost`: with its node, so through no fault of the trial.
    """

    def __init__(self, message: str, *, node_lost: bool = False) -> None:
        super().__init__(message)
        self.node_lost = node_lost


class StorageError(RigorlError):
    """What a trial keeps cannot be written or read, or is not what was written."""


class JournalError(RigorlError):
    """The record of the study cannot be read or written."""


class DivergedError(JournalError):
    """The same report came twice with different content: something is not deterministic."""


class JobError(RigorlError):
    """A cluster is not there, or cannot take the study; nothing of it was sent."""


class Stopped(BaseException):
    """A signal asked the driver to stop. Not an error, and never swallowed by one."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def nearest(name: str, among: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest of *among*, or all if none is close."""
    names = sorted(set(among))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; choose one of {', '.join(names)}" if names else ""
