"""What an alarm does to its trial: it ends there, or goes on as it was before the fall.

A decision falls at the first safe yield after an exam, or at the end of a stage, and there the
exams taken so far are waited for: so it rests on nothing but the trial. What is undone are the
agent's lessons. Its steps stay spent, updates are counted on, and the world is another one.

A roll-back never leads past the switch to the running task, whose learning it would undo too,
and at the end of a stage there is none, for no steps are left to learn with.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from weakref import finalize

from msgspec.structs import replace

from rigorl import checkpoint, switching
from rigorl.alarms import Fall, Watched
from rigorl.analysis import alarm
from rigorl.checkpoint import Folder, Place, Store
from rigorl.contract import Agent
from rigorl.errors import TrialFailed
from rigorl.trial import Report, Trial


def is_armed(trial: Trial, place: Place) -> bool:
    """Say whether what exams show now decides how *trial* goes on."""
    return trial.alarm is not None and place.stage > 0


def rolls_back(trial: Trial) -> bool:
    return trial.alarm is not None and trial.alarm.then == "roll_back"


def room(trial: Trial, store: Store | None) -> Store | None:
    """Return where *trial* keeps its checkpoints: one that may go back to them needs a place.

    If nobody gave one, it goes away with the last who knows it.
    """
    if store is not None or not rolls_back(trial):
        return store
    passing = Folder(Path(mkdtemp(prefix="rigorl-")))
    finalize(passing, shutil.rmtree, passing.path, ignore_errors=True)
    return passing


def metrics(trial: Trial, place: Place) -> dict[str, float]:
    """Return what a report must say for others to know which of the agent's lives it is of."""
    if not rolls_back(trial):
        return {}
    to = place.backs[-1] if place.backs else 0
    return {alarm.ROLLED_BACK: len(place.backs), alarm.ROLLED_BACK_TO: to}


def note(trial: Trial, place: Place, report: Report) -> None:
    """Take note in *place* of what *report* shows to have fallen."""
    if trial.alarm is None:
        return
    watch, fallen = alarm.looked(
        trial, place.watched, report, alarm.scores(trial, report), trial.alarm, place.name
    )
    place.watched = dict(watch)
    place.fallen += fallen


def heed(trial: Trial, place: Place) -> str | None:
    """Return the checkpoint to go back to now, if *trial* is to. One that is to stop fails."""
    if trial.alarm is None or not place.fallen:
        return None
    fallen, place.fallen = place.fallen, []
    if trial.alarm.then == "stop":
        raise _stopped(fallen[0], trial.alarm.within)
    if len(place.backs) - place.backs_before >= trial.alarm.most:
        return None
    return min(fall.since.checkpoint for fall in fallen)


def _stopped(fall: Fall, within: int) -> TrialFailed:
    error = TrialFailed(
        f"the alarm stopped it: the score on task {fall.task!r} fell by "
        f"{fall.since.score - fall.score:.3g} within {within} exams, from {fall.since.score:.3g} "
        f"to {fall.score:.3g}, at step {fall.step} of stage {fall.stage + 1}"
    )
    error.alarm, error.place = True, (fall.stage, fall.step)
    return error


def gone_back(
    trial: Trial, place: Place, store: Store, name: str, settings: Mapping[str, Any]
) -> Agent:
    """Return the agent of the checkpoint *name*, with *settings*, and go on from it in *place*."""
    agent = switching.born(trial, settings)
    with checkpoint.reopened(store, name) as (then, folder):
        agent.load(folder)
    place.watched = then.watched
    place.ahead = place.update - (then.update - then.ahead)
    place.backs.append(then.exams)
    return agent


def hold(trial: Trial, place: Place) -> None:
    """Note in *place* that a checkpoint is made here, and which ones may be needed from now on."""
    place.name = checkpoint.name_of(place)
    if not rolls_back(trial):
        return
    made, switched = switching.steps(trial, place), place.step == 0
    if switched:
        place.backs_before = len(place.backs)
    here = [t.name for t in trial.tasks[: place.stage] if t.name in place.watched]
    for task in here:
        levels = place.watched[task].levels
        place.watched[task] = Watched(
            place.watched[task].seen,
            tuple(
                replace(level, checkpoint=place.name)
                if switched or (level.made, level.update) == (made, place.update)
                else level
                for level in levels
            ),
        )
    held = {level.checkpoint for task in here for level in place.watched[task].levels}
    place.needed_before, place.needed = place.needed, sorted(held)
