"""What a search may maximise; `rigorl.objectives` works it out."""

from typing import Literal

from msgspec import Struct

from rigorl.errors import SpecError

Objective = Literal[
    "score", "worst_task", "worst_seed", "forgetting", "worst_case", "updates", "hypervolume"
]
PER_EXAM = ("score", "worst_task", "updates", "hypervolume")
"""Objectives that one exam of one trial tells, and by which a worker can prune."""


class Measure(Struct, frozen=True, kw_only=True):
    """What a trial is worth at an exam. `reference` and `ideal` are of a hypervolume."""

    objective: Objective = "score"
    reference: tuple[float, ...] = ()
    ideal: tuple[float, ...] = ()

    def check(self, rewards: int, task: str) -> None:
        """Refuse points that are not of as many objectives as *task* has *rewards*."""
        if self.objective == "hypervolume" and len(self.reference) != rewards:
            raise SpecError(
                "reference_point must have a number for each reward of a step, but has "
                f"{len(self.reference)}, and task {task!r} earns {rewards}; correct it"
            )


BY_SCORE = Measure()
