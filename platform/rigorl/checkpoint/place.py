"""Where a run stands."""

from msgspec import Struct
from msgspec.structs import replace

from rigorl.alarms import Fall, Watched
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
    """Reports since the checkpoint before the last: the driver may not have them yet."""
    older: int = 0
    """How many of them came before the last checkpoint."""
    exam_tallies: dict[str, Tally] = {}
    """Episodes of the exams told so far, by task."""
    pending: list[Report] = []
    """Reports, without returns, whose exams were under way."""
    made: int = 0
    """Environment steps of the trial, over all stages, at the last checkpoint."""
    before: int = 0
    """And at the one before it."""
    name: str = ""
    """The last checkpoint, written or not."""
    exams: int = 0
    """Exams taken so far."""
    watched: dict[str, Watched] = {}
    """What an alarm that acts knows of the tasks begun."""
    fallen: list[Fall] = []
    """What fell and was not acted on yet."""
    ahead: int = 0
    """Updates that were made and undone: by so many it is ahead of the agent's own count."""
    backs: list[int] = []
    """For each roll-back, the exams that the checkpoint had seen to which it led."""
    backs_before: int = 0
    """How many of them fell into earlier stages."""
    needed: list[str] = []
    """Checkpoints that a roll-back may lead to ..."""
    needed_before: list[str] = []
    """... and those that it could at the checkpoint before the last."""

    @property
    def told(self) -> int:
        """How many rungs were told before those that are `unsaved`."""
        return len(self.values) - sum(report.rung is not None for report in self.unsaved)

    def of(self, trial: str) -> None:
        """Make it the place of another *trial*, which is like the one that stood here so far."""
        self.unsaved = [replace(report, trial=trial) for report in self.unsaved]
        self.pending = [replace(report, trial=trial) for report in self.pending]

    def settle(self) -> None:
        """Note that a checkpoint was made; let go of what came before the last one."""
        del self.unsaved[: self.older]
        self.older, self.pending = len(self.unsaved), []

    def tally(self, task: str) -> Tally:
        """Return the tally of *task*, at first an empty one."""
        return self.tallies.setdefault(task, Tally())

    def exam_tally(self, task: str) -> Tally:
        """Return the tally of the exams on *task*, at first an empty one."""
        return self.exam_tallies.setdefault(task, Tally())
