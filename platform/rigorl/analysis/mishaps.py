"""What befell trials that did not finish."""

from collections.abc import Sequence

from msgspec import Struct

from rigorl.analysis.curves import last
from rigorl.analysis.evidence import Evidence
from rigorl.trial import Phase, Trial


class Mishap(Struct, frozen=True, kw_only=True):
    """A trial that failed: which one, where, and why."""

    arm: str
    phase: Phase
    seed: int
    task: str
    stage: int
    step: int
    cause: str
    lasting: bool


def mishaps(
    evidence: Evidence, trials: Sequence[Trial], *, by_alarm: bool = False
) -> tuple[Mishap, ...]:
    """Return what befell those of *trials* that did not finish, by task and seed.

    What its alarm ended is a thing of its own.
    """
    found = [
        Mishap(
            arm=trial.arm,
            phase=trial.phase,
            seed=trial.seed,
            task=trial.tasks[min(failure.stage, len(trial.tasks) - 1)].name,
            stage=failure.stage,
            step=failure.step,
            cause=failure.cause,
            lasting=failure.lasting,
        )
        for trial in trials
        if last(trial, evidence.reports) is None
        if (failure := evidence.failures.get(trial.id)) and failure.alarm == by_alarm
    ]
    return tuple(sorted(found, key=lambda m: (m.arm, m.task, m.seed)))
