"""MLflow: what the journal holds, shown where people look.

A thread of its own reads the journal and writes to MLflow in batches. It remembers in the
journal how far it got, and every point carries the journal's time. MLflow may be slow or
away: nothing waits for it but the end of the program, and that not for long; the next run
catches up.

    study (run)  tags, the verdict, its figures
      candidate, or arm under test (run, nested)  tags, parameters; metrics: means over seeds
        trial (run, nested)  tags, parameters; metrics: scores, the agent's own, continual
                             and, once it finished, what its curve comes to

Whatever MLflow lost for good (a fresh store, `mlflow gc`) is made again once there is news of
it. Whatever a person deleted there stays deleted; brought back, the next run catches up.
"""

import math
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rigorl.analysis.borne import under_attack
from rigorl.analysis.curves import Curve, means, summary
from rigorl.hiding import shown
from rigorl.outside.groups import Groups
from rigorl.outside.journal import Row, SqlJournal
from rigorl.outside.mlflow_alarms import is_marked, mark
from rigorl.outside.mlflow_runs import AWAY, Point, Runs, State
from rigorl.outside.provenance import provenance
from rigorl.spec import Experiment
from rigorl.trial import Failure, Trial, fingerprint

Last = Mapping[str, tuple[int, int, bool]]
"""Of each trial the last row, the time it came, and whether the trial finished."""
STATES: dict[str, State] = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "stopped"}
EVERY = 2.0
"""Seconds between two looks at the journal."""
PATIENCE = 30.0
"""Seconds, at most, that the end of the program waits."""


class End(NamedTuple):
    """How a study ended, the files to keep with it, and its scales, once all are known."""

    status: str
    files: Mapping[str, str]
    scales: Mapping[str, tuple[float, float]] | None


class Mirror:
    """Keeps MLflow at *uri* like the journal, from `start` to `finish`."""

    def __init__(
        self, uri: str, artifacts: str | None, journal: SqlJournal, spec: Experiment
    ) -> None:
        self.journal, self.spec, self.what = journal, spec, f"study:{spec.name}"
        self.runs = Runs(uri, artifacts, journal, spec.name)
        self.groups = Groups(journal, spec)
        self.trouble: str | None = None
        self.measured = any(
            task.random == "measured" or isinstance(task.reference, str) for task in spec.tasks
        )
        """Scales are known only at the end: so are, then, measures of normalised scores."""
        self.study = ""
        self._end: End | None = None
        self._over = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mirror", daemon=True)

    def start(self) -> "Mirror":
        self._thread.start()
        return self

    def finish(
        self,
        status: str,
        artifacts: Mapping[str, str],
        scales: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        """Show what is left, the *artifacts* (name -> text) and how it ended.

        *scales* are the returns that count as 0 and 1 on each task, once all are known.
        """
        self._end = End(status, artifacts, scales)
        self._stop.set()
        self._thread.join(PATIENCE)
        if not self._over:
            self.runs.late.set()
            self.trouble = self.trouble or "it does not answer in time"

    def _follow(self) -> None:
        while not self._over:
            ending = self._stop.wait(EVERY)
            try:
                self._look()
                if ending and self._end:
                    self._close(self._end)
                self.trouble = self.runs.refused
            except AWAY as error:  # it comes back, or the next run catches up
                self.runs.disconnect()
                self.trouble = shown(str(error).splitlines()[0])
            self._over = ending

    def _look(self) -> None:
        """Show every row of the journal that is not shown yet, each trial's in their order."""
        runs, name = self.runs, self.spec.name
        about = self._tags({"mlflow.note.content": self.spec.question})
        self.study = runs.open(self.what, name, about, {})
        news = self.journal.newest(name, runs.shown(self.what))
        failed = self.journal.failed(name)
        failing = [t for t in failed if runs.state(t) != _ended(failed[t]) and t not in runs.alone]
        self.groups.meet({*news, *failing})
        for trial, (seq, _, finished) in news.items():
            if seq > runs.shown(trial) and trial not in runs.alone:
                with runs.guarded(trial):
                    self._show(self.groups.trials[trial], finished=finished)
        for trial in failing:
            with runs.guarded(trial):
                self._open(self.groups.trials[trial])
                runs.end(trial, _ended(failed[trial]), cause=failed[trial].cause)
        for group in {self.groups.of[trial] for trial in (*news, *failing)}:
            if self._is_over(group):
                self._sum_up(group, news)
        if news and not runs.alone:
            runs.note(self.what, self.study, max(seq for seq, _, _ in news.values()))

    def _show(self, trial: Trial, *, finished: bool) -> None:
        """Show the rows of *trial* that are not shown yet.

        Older ones are read only where a measure needs the whole curve. None is kept.
        """
        runs, shown = self.runs, self.runs.shown(trial.id)
        whole = finished or len(trial.tasks) > 1
        rows = self._rows(trial.id, since=0 if whole else shown)
        self._open(trial, rows[0].at)
        if runs.shown(trial.id) < shown:  # its run was gone for good, and is made again
            self._show(trial, finished=finished)
            return
        curve = Curve.of(trial, [row.report for row in rows])
        points = [
            point
            for n, row in enumerate(rows)
            if row.seq > shown
            for point in _points(row, int(curve.total_step_N[n]), self._values(row, curve, n))
        ]
        runs.send(trial.id, points, rows[-1].seq)
        mark(runs, trial, rows, self.spec.alarm)
        if rows[-1].report.finished:
            runs.end(trial.id, "finished", rows[-1].at)

    def _rows(self, trial: str, since: int = 0) -> list[Row]:
        """Return the rows of *trial*, those of one step at moments of their own.

        Exams between the updates of one step may come at once, and MLflow tells points apart,
        and orders them, by time, step and value only.
        """
        apart: list[Row] = []
        for row in self.journal.rows({trial}, since=since):
            last = apart[-1] if apart else row
            same = (last.report.stage, last.report.step) == (row.report.stage, row.report.step)
            apart.append(row._replace(at=max(row.at, last.at + 1)) if apart and same else row)
        return apart

    def _values(self, row: Row, curve: Curve, n: int) -> dict[str, float]:
        """Return what is shown of *row*, the n-th of *curve*."""
        scores = zip(curve.tasks, curve.scores_TN[:, n], strict=True)
        values = {**row.report.metrics, **{f"score/{task}": float(s) for task, s in scores}}
        values |= under_attack(row.report, curve.tasks)
        values |= {} if self.measured else self._continual(curve.upto(n + 1))
        return values | (summary(curve) if row.report.finished else {})

    def _continual(self, curve: Curve, mark: str = "") -> dict[str, float]:
        found = curve.continual(self.spec.windows) if len(curve.tasks) > 1 else {}
        return {f"continual{mark}/{name}": value for name, value in found.items()}

    def _is_over(self, group: str) -> bool:
        """Say whether all trials that are planned for *group* are known to have ended."""
        members = self.groups.members[group]
        ended = [trial for trial in members if self.runs.state(trial) not in {None, "running"}]
        return len(ended) == len(members) >= self.groups.planned(group)

    def _sum_up(self, group: str, last: Last) -> None:
        """Show what the seeds of *group* that finished come to, and how it ended."""
        runs, what = self.runs, self._what(group)
        members = [trial for trial in self.groups.members[group] if trial in runs.notes]
        state = _worst([runs.state(trial) for trial in members])
        if what not in runs.notes or state is None or runs.state(what) == state:
            return
        seq = max(map(runs.shown, members))
        done = [trial for trial in members if runs.state(trial) == "finished"]
        with runs.guarded(what):
            if done and runs.shown(what) < seq and what not in runs.alone:
                runs.send(what, self._means(done), seq)
            runs.end(what, state, max((last[t][1] for t in members if t in last), default=None))

    def _means(self, done: Sequence[str]) -> list[Point]:
        """Return the means over trials that are *done*, and how many these are."""
        found, newest = [], None
        for trial in done:
            rows = self._rows(trial)
            curve = Curve.of(self.groups.trials[trial], [row.report for row in rows])
            told = summary(curve) | under_attack(rows[-1].report, curve.tasks)
            found.append(told | ({} if self.measured else self._continual(curve)))
            newest = max(newest or rows[-1], rows[-1], key=lambda row: row.seq)
        # The time is that of a row, so that this, too, is the same when it is said again.
        return _points(newest, len(done), {"n": len(done), **means(found)}) if newest else []

    def _close(self, end: End) -> None:
        """Say how everything ended of which that was not said yet, and keep the files."""
        runs, last = self.runs, self.journal.newest(self.spec.name)
        self.groups.meet(last)
        open_ = [t for t in last if t in runs.notes and runs.state(t) in {None, "running"}]
        pruned = self.groups.pruned([trial for trial in open_ if not last[trial][2]])
        for trial in open_:
            state: State = "pruned" if trial in pruned else "stopped"
            with runs.guarded(trial):
                runs.end(trial, "finished" if last[trial][2] else state, last[trial][1])
        for group in self.groups.members:
            self._sum_up(group, last)
        self._mark_again()
        if self.measured and end.scales:
            self._show_continual(end.scales)
        runs.sweep()
        with runs.guarded(self.what):
            runs.keep(self.what, end.files)
            runs.end(self.what, STATES[end.status])

    def _mark_again(self) -> None:
        """Mark those that were shown when the alarm, which may change, was another one."""
        for id_, trial in self.groups.trials.items():
            if not is_marked(self.runs, trial, self.spec.alarm):
                with self.runs.guarded(id_):
                    mark(self.runs, trial, self._rows(id_), self.spec.alarm)

    def _show_continual(self, scales: Mapping[str, tuple[float, float]]) -> None:
        """Show the continual measures of all exams, now that the scales were measured.

        With more test seeds a measured scale moves, and all measures with it: their names say
        on which scale they are, so that no point contradicts another one.
        """
        runs, mark = self.runs, fingerprint(scales)[:4]
        for id_, trial in self.groups.trials.items():
            run, shown = runs.notes.get(id_, ("", 0))
            said = f"scaled:{run}"
            if not shown or len(trial.tasks) == 1 or runs.notes.get(said) == (mark, shown):
                continue
            rows = self._rows(id_)
            curve = Curve.of(trial, [row.report for row in rows]).scaled(scales)
            steps = map(int, curve.total_step_N)
            points = [
                point
                for n, (row, step) in enumerate(zip(rows, steps, strict=True), 1)
                for point in _points(row, step, self._continual(curve.upto(n), f"-{mark}"))
            ]
            with runs.guarded(id_):
                runs.send(id_, points, shown)
                runs.note(said, mark, shown)

    def _open(self, trial: Trial, start: int | None = None) -> None:
        """See that *trial* has a run, below that of its group."""
        group = self.groups.of[trial.id]
        number, name = self.groups.number(group), self.groups.name(group)
        about = {"arm": trial.arm, "phase": trial.phase, "config": fingerprint(trial.agent)}
        about |= {} if number is None else {"candidate": str(number)}
        params = {"agent": trial.agent.name, **trial.agent.config}
        if trial.agent.schedule:
            params["schedule"] = "; ".join(f"{step}: {set_}" for step, set_ in trial.agent.schedule)
        tags = self._tags({**about, "mlflow.parentRunId": self.study})
        above = self.runs.open(self._what(group), name, tags, params, start)
        own = {"seed": str(trial.seed), "trial": trial.id, "mlflow.parentRunId": above}
        task = f" {trial.tasks[0].name}" if trial.phase == "scale" else ""
        name = f"{name}{task} seed {trial.seed}"
        self.runs.open(trial.id, name, self._tags({**about, **own}), params, start)

    def _what(self, group: str) -> str:
        """Return what a group is noted as: with another run of the study it is another one."""
        return f"{self.study}/{group}"

    def _tags(self, about: Mapping[str, str]) -> dict[str, str]:
        return {"study": self.spec.name, **provenance(), **about}


def _points(row: Row, step: int, values: Mapping[str, float]) -> list[Point]:
    """Return *values* as points at the time of *row*. What is not finite cannot be drawn."""
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    return [Point(row.seq, name, value, row.at, step) for name, value in finite.items()]


def _ended(failure: Failure) -> State:
    return "stopped" if failure.alarm else "failed"


def _worst(states: Sequence[State | None]) -> State | None:
    """Return the state of a group whose trials ended so; None if none did."""
    order: tuple[State, ...] = ("failed", "stopped", "pruned", "finished")
    return next((state for state in order if state in states), None)
