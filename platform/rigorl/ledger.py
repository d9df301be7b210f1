"""What each arm has spent, whatever came of it: trials, steps, seconds."""

from collections.abc import Sequence
from typing import NamedTuple

from rigorl import report
from rigorl.outside.journal import State
from rigorl.outside.live import is_of, steps_made
from rigorl.spec import Experiment


class Entry(NamedTuple):
    """What one arm has spent in one phase; no part of a verdict, for seconds are not."""

    arm: str
    phase: str
    trials: int
    finished: int
    failed: int
    stopped: int
    """By their search or their alarm, or with the study: they did not finish, and did not fail."""
    steps: int
    learn_s: float
    """Of the last attempt of each trial, as are the others."""
    exam_s: float
    checkpoint_s: float


def ledger(spec: Experiment, states: Sequence[State]) -> list[Entry]:
    """Return what the trials of *spec* have spent. A trial that two searches share counts once."""
    ours = [state for state in states if is_of(spec, state)]
    keys = dict.fromkeys((state.trial.arm, state.trial.phase) for state in ours)
    return [_entry(*key, [s for s in ours if (s.trial.arm, s.trial.phase) == key]) for key in keys]


def _entry(arm: str, phase: str, states: Sequence[State]) -> Entry:
    finished = sum(state.finished for state in states)
    failed = sum(s.failure is not None and not s.failure.alarm for s in states)
    spent = (sum(s.seconds.get(what, 0.0) for s in states) for what in WHAT)
    steps = sum(map(steps_made, states))
    stopped = len(states) - finished - failed
    return Entry(arm, phase, len(states), finished, failed, stopped, steps, *spent)


WHAT = ("learn", "exam", "checkpoint")


def page(entries: Sequence[Entry]) -> str:
    """Return the ledger as a table, with the sum of all."""
    rows = [
        [
            f"{e.arm}, {e.phase}",
            f"{e.finished} + {e.stopped} + {e.failed}",
            f"{e.steps:,}",
            *(f"{seconds:,.1f}" for seconds in (e.learn_s, e.exam_s, e.checkpoint_s)),
        ]
        for e in entries
    ]
    done, stopped, failed = (
        sum(getattr(e, of) for e in entries) for of in ("finished", "stopped", "failed")
    )
    sums = (sum(getattr(e, f"{what}_s") for e in entries) for what in WHAT)
    steps = sum(e.steps for e in entries)
    total = ["all", f"{done} + {stopped} + {failed}", f"{steps:,}", *(f"{s:,.1f}" for s in sums)]
    head = ["arm, phase", "finished + stopped + failed", "steps", "learning, s", "exams, s"]
    table = report.table([*head, "checkpoints, s"], [*rows, total])
    return f"{table}\n\nSeconds are those of the last attempt of each trial.\n"
