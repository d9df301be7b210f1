"""Alarms in MLflow: a tag that tells all of a trial's, and a point where each was raised."""

from collections.abc import Sequence

from rigorl.alarms import AlarmSpec
from rigorl.analysis.alarm import Moment, Raised, alarms, of_trial
from rigorl.outside.journal import Row
from rigorl.outside.mlflow_runs import Point, Runs
from rigorl.trial import Trial, fingerprint


def is_marked(runs: Runs, trial: Trial, alarm: AlarmSpec | None) -> bool:
    """Say whether all that is shown of *trial* is marked by *alarm*: it may be another by now."""
    run, shown = runs.notes.get(trial.id, ("", 0))
    said = runs.notes.get(_note(run))
    never = alarm is None and said is None
    return len(trial.tasks) == 1 or not shown or never or said == (fingerprint(alarm)[:4], shown)


def mark(runs: Runs, trial: Trial, rows: Sequence[Row], alarm: AlarmSpec | None) -> None:
    """Mark the run of *trial*, which has made *rows*, by *alarm*; one may be marked again.

    The name of a point's metric says what counts as a fall, so that none contradicts another.
    """
    if is_marked(runs, trial, alarm):
        return
    run, shown = runs.notes[trial.id]
    found = alarms(trial, [row.report for row in rows], alarm) if alarm else []
    by_place = {Moment(r.stage, r.step, r.update): row for row in rows for r in [row.report]}
    points = [_point(trial, by_place[one.at], one, alarm) for one in found if alarm]
    runs.send(trial.id, points, shown)
    if found or _note(run) in runs.notes:
        runs.tag(trial.id, alarm="; ".join(map(of_trial, found)))
    runs.note(_note(run), fingerprint(alarm)[:4], shown)


def _point(trial: Trial, row: Row, one: Raised, alarm: AlarmSpec) -> Point:
    name = f"alarm-{alarm.drop:g}-{alarm.within}/{one.task}"
    step = one.at.stage * trial.budget.steps + one.at.step
    return Point(row.seq, name, one.drop, row.at, step)


def _note(run: str) -> str:
    return f"alarm:{run}"
