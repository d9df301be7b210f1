"""MLflow: what the journal holds, shown where people look.

A thread of its own reads the journal and writes to MLflow in batches. It remembers in the
journal how far it got, and every point carries the journal's time, so that a point which is
sent again is the same point. MLflow may be slow or away: nothing waits for it but the end of
the program, and that not for long; the next run catches up.

    study (run)  tags, the verdict, its figures
      trial (run, nested)  tags, parameters; metrics: scores, the agent's own, continual
"""

import logging
import math
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the mirror itself tries again
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException

from rigorl.analysis.curves import Curve
from rigorl.outside.journal import DatabaseError, Row, SqlJournal
from rigorl.spec import Experiment
from rigorl.trial import Report, Trial, fingerprint

BATCH = 1_000
LONGEST = 6_000
"""Characters of a parameter, at most, that MLflow takes."""
EVERY = 2.0
"""Seconds between two looks at the journal."""
AWAY = (MlflowException, RequestException, OSError, DatabaseError)
PATIENCE = 30.0
"""Seconds that the end of the program waits for a round that is under way."""
logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.ERROR)


class Mirror:
    """Keeps MLflow at *uri* like the journal, from `start` to `finish`."""

    def __init__(
        self, uri: str, artifacts: str | None, journal: SqlJournal, spec: Experiment
    ) -> None:
        self.uri, self.artifacts, self.journal, self.spec = uri, artifacts, journal, spec
        self.rows: dict[str, list[Row]] = {}
        self.seen = 0
        self.shown: dict[str, tuple[str, int]] = {}
        self.trials: dict[str, Trial] = {}
        self.trouble: str | None = None
        self.measured = any(
            task.random == "measured" or isinstance(task.reference, str) for task in spec.tasks
        )
        """Scales are known only at the end: so are, then, measures of normalised scores."""
        self._client: MlflowClient | None = None
        self._home = ""
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
        self._stop.set()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self.trouble = self.trouble or "it does not answer"
            return
        try:
            self._catch_up()
            if self.measured and scales:
                self._show_continual(scales)
            client, run = self._connected(), self._study_run()
            for name, text in artifacts.items():
                client.log_text(run, text, name)
            self._end_trials()
            client.set_terminated(run, status)
            self.trouble = None
        except AWAY as error:
            self.trouble = str(error).splitlines()[0]

    def _follow(self) -> None:
        while not self._stop.wait(EVERY):
            try:
                self._catch_up()
                self.trouble = None
            except AWAY as error:  # it comes back, or the next run catches up
                self.trouble = str(error).splitlines()[0]

    def _connected(self) -> MlflowClient:
        if self._client is None:
            client = MlflowClient(tracking_uri=self.uri)
            found = client.get_experiment_by_name(self.spec.name)
            if found is None:  # a fresh MLflow: what an earlier one was shown is not there
                self.journal.forget_mirrored(self.uri, self.spec.name)
                place = self.artifacts
                self._home = client.create_experiment(self.spec.name, artifact_location=place)
            else:
                self._home = found.experiment_id
            self.shown = self.journal.mirrored(self.uri)
            self._client = client
        return self._client

    def _catch_up(self) -> None:
        """Show every row of the journal that is not shown yet, in its order."""
        self._connected()
        for row in self.journal.rows(study=self.spec.name, since=self.seen):
            self.rows.setdefault(row.report.trial, []).append(row)
            self.seen = row.seq
        if self.rows.keys() - self.trials.keys():
            self.trials = {t.id: t for t in self.journal.trials(self.spec.name)}
        for trial, rows in self.rows.items():
            _, shown = self.shown.get(trial, ("", 0))
            if rows[-1].seq > shown:
                self._show(self.trials[trial], rows, shown)

    def _show(self, trial: Trial, rows: Sequence[Row], shown: int) -> None:
        client, run = self._connected(), self._trial_run(trial)
        curve = Curve.of(trial, [row.report for row in rows])
        metrics = [
            Metric(name, value, row.at, int(curve.total_step_N[n]))
            for n, row in enumerate(rows)
            if row.seq > shown
            for name, value in self._metrics(row.report, curve.upto(n + 1)).items()
        ]
        self._log(run, metrics)
        if rows[-1].report.finished:
            client.set_terminated(run, "FINISHED", end_time=rows[-1].at)
        self._mark(trial.id, run, rows[-1].seq)

    def _show_continual(self, scales: Mapping[str, tuple[float, float]]) -> None:
        """Show the continual measures of all exams, now that the scales were measured.

        With more test seeds a measured scale moves, and all measures with it: their names say
        on which scale they are, so that no point contradicts another one.
        """
        mark = fingerprint(scales)[:4]
        for trial, rows in self.rows.items():
            if len(self.trials[trial].tasks) > 1:
                curve = Curve.of(self.trials[trial], [row.report for row in rows]).scaled(scales)
                metrics = [
                    Metric(name, value, row.at, int(curve.total_step_N[n]))
                    for n, row in enumerate(rows)
                    for name, value in self._continual(curve.upto(n + 1), f"-{mark}").items()
                ]
                self._log(self.shown[trial][0], metrics)

    def _continual(self, curve: Curve, mark: str = "") -> dict[str, float]:
        found = curve.continual(self.spec.windows) if len(curve.tasks) > 1 else {}
        return {f"continual{mark}/{name}": v for name, v in found.items() if math.isfinite(v)}

    def _log(self, run: str, metrics: Sequence[Metric]) -> None:
        for first in range(0, len(metrics), BATCH):
            self._connected().log_batch(run, metrics[first : first + BATCH])

    def _metrics(self, report: Report, curve: Curve) -> dict[str, float]:
        """Return what is shown of *report*: scores, the agent's own metrics, continual ones."""
        scores = {
            f"score/{task}": float(score)
            for task, score in zip(curve.tasks, curve.scores_TN[:, -1], strict=True)
        }
        continual = {} if self.measured else self._continual(curve)
        everything = {**report.metrics, **scores, **continual}
        return {name: value for name, value in everything.items() if math.isfinite(value)}

    def _trial_run(self, trial: Trial) -> str:
        if trial.id not in self.shown:
            tags = {
                "mlflow.parentRunId": self._study_run(),
                "study": trial.experiment,
                "arm": trial.arm,
                "phase": trial.phase,
                "seed": str(trial.seed),
                "trial": trial.id,
                "config": fingerprint(trial.agent),
            }
            name = f"{trial.arm} {trial.phase} seed {trial.seed}"
            self._new_run(trial.id, name, tags)
            params = {"agent": trial.agent.name, **trial.agent.config}
            values = [Param(key, str(value)[:LONGEST]) for key, value in params.items()]
            self._connected().log_batch(self.shown[trial.id][0], params=values)
        return self.shown[trial.id][0]

    def _study_run(self) -> str:
        what = f"study:{self.spec.name}"
        if what not in self.shown:
            tags = {"study": self.spec.name, "mlflow.note.content": self.spec.question}
            self._new_run(what, self.spec.name, tags | _provenance())
        return self.shown[what][0]

    def _new_run(self, what: str, name: str, tags: Mapping[str, str]) -> None:
        """Make the run of *what*, and note it at once: a run that is forgotten is made again."""
        run = self._connected().create_run(self._home, tags=dict(tags), run_name=name)
        self._mark(what, str(run.info.run_id), 0)

    def _mark(self, what: str, run: str, seq: int) -> None:
        self.journal.mark_mirrored(self.uri, what, run, seq)
        self.shown[what] = run, seq

    def _end_trials(self) -> None:
        """Close the runs of trials that were pruned, failed or stopped."""
        failures = self.journal.failures(self.trials)
        for trial, rows in self.rows.items():
            if not rows[-1].report.finished:
                status = "FAILED" if trial in failures else "KILLED"
                self._connected().set_terminated(self.shown[trial][0], status)


def _provenance() -> dict[str, str]:
    """Return which code this is, as far as git knows."""
    here = Path(__file__).parent
    if shutil.which("git") is None:
        return {}
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"],  # noqa: S607
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    return {"git": said.stdout.strip()} if said.returncode == 0 else {}
