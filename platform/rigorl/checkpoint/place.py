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
    """Episodes played so far, by task."""
    unsaved: list[Report] = []
    """Reports since the checkpoint before this one: the driver may not have them yet."""

    def tally(self, task: str) -> Tally:
        """Return the tally of *task*, at first an empty one."""
        return self.tallies.setdefault(task, Tally())
