"""Where a run stands."""

from msgspec import Struct

from rigorl.tasks.world import Tally
from rigorl.trial import Report

PLACE = "place.msgpack"


class Place(Struct):
    """Where a run stands. Everything here is saved with it."""

    stage: int = 0
    step: int = 0
    update: int = 0
    switched_at: int = 0
    """Update at which the running stage began."""
    values: dict[int, float] = {}
    """What the trial was worth at each rung."""
    tallies: dict[str, Tally] = {}
    """Episodes learned from so far, by task."""
    unsaved: list[Report] = []
    """Reports since the checkpoint before this one: the driver may not have them yet."""
    exam_tallies: dict[str, Tally] = {}
    """Episodes of the exams told so far, by task."""
    pending: list[Report] = []
    """Reports, without returns, whose exams were under way."""

    def tally(self, task: str) -> Tally:
        """Return the tally of *task*, at first an empty one."""
        return self.tallies.setdefault(task, Tally())

    def exam_tally(self, task: str) -> Tally:
        """Return the tally of the exams on *task*, at first an empty one."""
        return self.exam_tallies.setdefault(task, Tally())
