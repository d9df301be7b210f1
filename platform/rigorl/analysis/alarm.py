"""When the score on an earlier task fell as far as an alarm allows, and whether it came back.

A fall is between two evaluations of one window of `within` evaluations in a row, the one with
which the task was learned included: so there is a first one exactly where windowed forgetting
(`continual.windowed_forgetting`), from then on, comes to `drop`. The window begins anew where the
score fell to, and each further fall of `drop` is an alarm of its own. Evaluations that come later
take none away.

Where a trial rolled back, what came between the checkpoint and that moment is another life: the
window goes on from what the agent had seen at the checkpoint.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from rigorl.alarms import AlarmSpec, Fall, Level, Watched
from rigorl.analysis.curves import Array, Curve
from rigorl.trial import Phase, Report, Trial

ROLLED_BACK, ROLLED_BACK_TO = "rolled_back", "rolled_back_to"
"""Metrics of trials that may roll back: how often they did, and how many exams the checkpoint
that they last went back to had seen."""
BACK = 0.95
"""Share of the score that it fell from with which a task counts as recovered; less of a loss than
half of `drop` at the most, or a small fall would be one that is over at once."""
EXACT = 1e-9
"""0.7 - 0.4 is a fall by 0.3, whatever floats say."""
Watch = Mapping[str, Watched]
"""What is known of each task that was begun."""
Outcome = Literal["marked", "stopped", "rolled back"]


class Moment(Struct, frozen=True):
    """An exam: `step` counts environment steps of its stage, `update` since birth."""

    stage: int
    step: int
    update: int


class Raised(Struct, frozen=True, kw_only=True):
    """An alarm: on which task, when, how far it fell, and when that was made good, if it was."""

    arm: str
    phase: Phase
    seed: int
    task: str
    at: Moment
    before: float
    """The highest score of the window ..."""
    score: float
    """... and that with which the alarm was raised."""
    lowest: float
    """From then until it recovered."""
    recovered: Moment | None
    outcome: Outcome

    @property
    def drop(self) -> float:
        return self.before - self.score


def alarms(trial: Trial, reports: Sequence[Report], alarm: AlarmSpec) -> list[Raised]:
    """Return the alarms of *trial* in their order, by *reports* in the order of their making."""
    if not reports or len(trial.tasks) == 1:
        return []
    curve = Curve.of(trial, reports)
    scores_TN = curve.normalised_TN
    falls: list[tuple[int, Fall]] = []
    undone: set[int] = set()
    watch: Watch = {}
    past = [watch]
    rolls = trial.alarm is not None and trial.alarm.then == "roll_back"
    for n, report in enumerate(reports):
        if n and rolls and report.metrics[ROLLED_BACK] > reports[n - 1].metrics[ROLLED_BACK]:
            seen = int(report.metrics[ROLLED_BACK_TO])
            undone |= {number for number, _ in falls if number >= seen}
            watch = past[-1] = past[seen]
        watch, fallen = looked(trial, watch, report, scores_TN[:, n], alarm)
        past.append(watch)
        falls += [(n, fall) for fall in fallen]
    return [
        _raised(trial, curve, n, fall, alarm, _outcome(trial, reports, undone=n in undone))
        for n, fall in falls
    ]


def of_all(
    trials: Sequence[Trial], reports: Mapping[str, Sequence[Report]], alarm: AlarmSpec | None
) -> tuple[Raised, ...]:
    """Return the alarms of *trials*, finished or not, by seed; none where none is asked for."""
    if alarm is None:
        return ()
    ours = sorted(trials, key=lambda trial: trial.seed)
    return tuple(one for trial in ours for one in alarms(trial, reports.get(trial.id, ()), alarm))


def words(one: Raised) -> str:
    """Return an alarm as a person would say it."""
    return f"{one.arm}, {one.phase} seed {one.seed}: {of_trial(one)}"


def of_trial(one: Raised) -> str:
    """Return the same where everybody knows of which trial it is."""
    return (
        f"{one.task} fell by {one.drop:.3g} at {place(one.at)}, from {one.before:.3g} to "
        f"{one.score:.3g}; {came_of(one)}"
    )


def place(at: Moment) -> str:
    return f"stage {at.stage + 1}, step {at.step:,}, update {at.update:,}"


def came_of(one: Raised) -> str:
    lowest = "" if one.lowest == one.score else f"lowest {one.lowest:.3g}, "
    then = "" if one.outcome == "marked" else f"{one.outcome}, "
    if one.recovered is None:
        return f"{lowest}{then}not recovered"
    return f"{lowest}{then}recovered by update {one.recovered.update:,}"


def looked(
    trial: Trial, watch: Watch, report: Report, scores_T: Array, alarm: AlarmSpec, at: str = ""
) -> tuple[Watch, list[Fall]]:
    """Return what is known after *report*, which has *scores_T*, and what it shows to have fallen.

    *at* is the last checkpoint made by then.
    """
    now, fallen = dict(watch), []
    made = report.stage * trial.budget.steps + report.step
    for row, task in enumerate(trial.tasks[: report.stage + 1]):
        score = float(scores_T[row])
        if np.isnan(score):
            continue  # it was not examined
        here = Level(score, 1, made, report.update)
        if row == report.stage or task.name not in watch:
            now[task.name] = Watched(1, (here,))  # learned, as far as one knows yet
            continue
        seen = watch[task.name].seen + 1
        levels = [one for one in watch[task.name].levels if one.number > seen - alarm.within]
        if levels and levels[0].score - score >= alarm.drop - EXACT:
            fallen.append(Fall(task.name, levels[0], score, report.stage, report.step))
            levels = []
        higher = [level for level in levels if level.score > score]
        here = replace(here, number=seen, checkpoint=at)
        now[task.name] = Watched(seen, (*higher, here))
    return now, fallen


def scores(trial: Trial, report: Report) -> Array:
    """Return the score on each task in *report*, on the scale of the task."""
    scores_T: Array = Curve.of(trial, [report]).normalised_TN[:, 0]
    return scores_T


def _raised(
    trial: Trial, curve: Curve, n: int, fall: Fall, alarm: AlarmSpec, outcome: Outcome
) -> Raised:
    before = fall.since.score
    enough = before - min((1 - BACK) * abs(before), alarm.drop / 2)
    later_N = curve.normalised_TN[curve.tasks.index(fall.task)].copy()
    later_N[: n + 1] = np.nan
    back = next(iter(np.flatnonzero(later_N >= enough)), None)
    until_N = later_N[n + 1 : back]
    return Raised(
        arm=trial.arm,
        phase=trial.phase,
        seed=trial.seed,
        task=fall.task,
        at=_moment(curve, n),
        before=before,
        score=fall.score,
        lowest=float(np.nanmin([fall.score, *until_N])),
        recovered=None if back is None else _moment(curve, int(back)),
        outcome=outcome,
    )


def _moment(curve: Curve, n: int) -> Moment:
    return Moment(int(curve.stage_N[n]), int(curve.step_N[n]), int(curve.update_N[n]))


def _outcome(trial: Trial, reports: Sequence[Report], *, undone: bool) -> Outcome:
    if undone:
        return "rolled back"
    stops = trial.alarm is not None and trial.alarm.then == "stop"
    return "stopped" if stops and not reports[-1].finished else "marked"
