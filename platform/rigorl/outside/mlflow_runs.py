"""MLflow's runs: each made once, each point in it once, each ended truly, whoever dies when.

A thing is done first and noted in the journal then. A death in between does it again, and
everything here may be done again: a run is found by its tag, a point that is sent again is
the same point, and so is an end.
"""

import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # stdout is for results
# The mirror tries again itself. MLflow would repeat the making of runs, too, and make two.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException

from rigorl import crash
from rigorl.errors import JournalError
from rigorl.hiding import has_secret, shown
from rigorl.outside.journal import DatabaseError, SqlJournal

State = Literal["running", "finished", "pruned", "failed", "stopped"]
STATES: tuple[State, ...] = get_args(State)
STATUS = {"finished": "FINISHED", "failed": "FAILED", "pruned": "KILLED", "stopped": "KILLED"}
BATCH = 1_000
"""Points, at most, that MLflow takes at once."""
LONGEST = 6_000
"""Characters of a parameter, at most, that MLflow takes."""
logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.ERROR)


class HiddenError(Exception):
    """What is asked for was deleted by a person, who may want it back."""


AWAY = (MlflowException, RequestException, OSError, DatabaseError, JournalError, HiddenError)
"""What may go wrong between here and there, and right again later."""


class Point(NamedTuple):
    """A value of a metric, from row `seq` of the journal, which came `at` (ms since 1970)."""

    seq: int
    name: str
    value: float
    at: int
    step: int


class Runs:
    """The runs of one study at one MLflow. `notes[what]` is (run, last row that it shows)."""

    def __init__(self, uri: str, artifacts: str | None, journal: SqlJournal, study: str) -> None:
        self.uri, self.artifacts, self.journal, self.study = uri, artifacts, journal, study
        self.target = _target(uri)
        self.notes: dict[str, tuple[str, int]] = {}
        self.alone: set[str] = set()
        """What a person deleted or MLflow refuses: left alone until the next run of the study."""
        self.refused: str | None = None
        self.late = threading.Event()
        """Nobody waits any longer: the next request is not made."""
        self._met: set[str] = set()
        self._reached: MlflowClient | None = None
        self._home = ""

    @property
    def _client(self) -> MlflowClient:
        if self.late.is_set():
            raise TimeoutError("it takes longer than the end of a program should")
        if self._reached is None:
            self._connect()
        return self._reached

    def _connect(self) -> None:
        client = MlflowClient(tracking_uri=self.uri)
        found = client.get_experiment_by_name(self.study)
        if found is None:  # a fresh MLflow: what an earlier one was shown is not there
            self.journal.forget_mirrored(self.target, self.study)
            place = self.artifacts
            self._home = client.create_experiment(self.study, artifact_location=place)
        elif found.lifecycle_stage == "deleted":
            raise HiddenError(
                f"its experiment {self.study!r} was deleted there; "
                f"`mlflow experiments restore -x {found.experiment_id}` brings it back"
            )
        else:
            self._home = found.experiment_id
        self.notes = self.journal.mirrored(self.target)
        self._met.clear()
        self.alone.clear()
        self.refused = None
        self._reached = client

    def disconnect(self) -> None:
        """Look again, next time, what there is: after trouble MLflow may be another one."""
        self._reached = None

    def shown(self, what: str) -> int:
        """Return the last row of the journal that the run of *what* shows; 0 if none."""
        return self.notes.get(what, ("", 0))[1]

    def note(self, what: str, run: str, seq: int) -> None:
        self.journal.mark_mirrored(self.target, what, run, seq)
        self.notes[what] = run, seq

    def open(
        self,
        what: str,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        start: int | None = None,
    ) -> str:
        """Return the run of *what*, which is made if there is none, and running from now on."""
        client = self._client
        if what in self.notes and what not in self._met and self._is_deleted(what):
            self.alone.add(what)
        if what not in self.notes:
            run = self._find(what) or client.create_run(
                self._home,
                start_time=start,
                tags={**tags, "what": what, "state": "running"},
                run_name=name,
            )
            said = [Param(_name(key), str(value)[:LONGEST]) for key, value in params.items()]
            client.log_batch(run.info.run_id, params=said)
            self.note(what, str(run.info.run_id), 0)
        self._met.add(what)
        run_id = self.notes[what][0]
        if what not in self.alone and self.state(what) not in {None, "running"}:
            client.set_tag(run_id, "state", "running")
            client.update_run(run_id, "RUNNING")
            self.note(f"end:{run_id}", "running", 0)
        return run_id

    def _is_deleted(self, what: str) -> bool:
        """Say whether a person deleted the run of *what*. One that is gone for good is forgotten.

        It is made again, then, and filled from the start.
        """
        try:
            run = self._client.get_run(self.notes[what][0])
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            del self.notes[what]
            return False
        return bool(run.info.lifecycle_stage == "deleted")

    def _find(self, what: str) -> Any:
        """Return the run that a process made just before it died; such a run is still empty.

        One with points was noted: in another journal, whose times are not ours.
        """
        found = self._client.search_runs(
            [self._home], f"tags.what = '{what}' and status = 'RUNNING'", ViewType.ACTIVE_ONLY
        )
        return next((run for run in found if not run.data.metrics), None)

    def send(self, what: str, points: Sequence[Point], upto: int) -> None:
        """Show *points*, which are in the order of their rows, and with them all rows to *upto*."""
        for first in range(0, len(points), BATCH):
            rest = first + BATCH < len(points)
            batch = points[first : first + BATCH]
            self._flush(what, batch, batch[-1].seq - 1 if rest else upto)
        if not points:
            self._flush(what, [], upto)

    def _flush(self, what: str, batch: Sequence[Point], upto: int) -> None:
        """Send one batch, and note that all rows up to *upto* are shown."""
        if what in self.alone:
            return
        run, shown = self.notes[what]
        if batch:
            self._client.log_batch(
                run, [Metric(_name(p.name), p.value, p.at, p.step) for p in batch]
            )
        crash.point("mirror.flush")  # sent, and not noted: it is sent again, and MLflow drops it
        self.note(what, run, max(upto, shown))

    def state(self, what: str) -> State | None:
        """Return how *what* ended, or that it runs again since; None if nothing was said."""
        run, _ = self.notes.get(what, ("", 0))
        said, _ = self.notes.get(f"end:{run}", (None, 0))
        return next((state for state in STATES if state == said), None)

    def end(self, what: str, state: State, at: int | None = None, **tags: str) -> None:
        """Say how *what* ended, and when."""
        if what in self.alone or self.state(what) == state:
            return
        run, seq = self.notes[what]
        said = [RunTag(key, value[:LONGEST]) for key, value in {"state": state, **tags}.items()]
        self._client.log_batch(run, tags=said)
        self._client.set_terminated(run, STATUS[state], at)
        self.note(f"end:{run}", state, seq)

    def tag(self, what: str, **tags: str) -> None:
        """Give the run of *what* these tags, whatever they were."""
        if what not in self.alone:
            said = [RunTag(key, value[:LONGEST]) for key, value in tags.items()]
            self._client.log_batch(self.notes[what][0], tags=said)

    def keep(self, what: str, files: Mapping[str, str]) -> None:
        """Keep *files* (name -> text) with the run of *what*."""
        if what not in self.alone:
            for name, text in files.items():
                self._client.log_text(self.notes[what][0], text, name)

    def sweep(self) -> None:
        """Delete the empty twins of our runs.

        A request that was given up while MLflow did not answer may have been done all the same,
        after another one took its place.
        """
        for run in self._client.search_runs([self._home], "status = 'RUNNING'"):
            noted, _ = self.notes.get(run.data.tags.get("what", ""), ("", 0))
            if noted and noted != run.info.run_id and not run.data.metrics:
                self._client.delete_run(run.info.run_id)

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Let nothing that MLflow refuses of *what* stand in the way of the rest."""
        try:
            yield
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            self.alone.add(what)
            if what not in self.notes or not self._is_deleted(what):
                self.refused = shown(str(error).splitlines()[0])


def attach(
    uri: str, journal: SqlJournal, files: Mapping[str, Sequence[Path]], folder: str
) -> list[str]:
    """Keep *files*, by their trials, in the *folder* of the trials' runs; say what could not be.

    For a process that is not the mirror, and makes no run.
    """
    notes, left = journal.mirrored(_target(uri)), []
    for trial, paths in files.items():
        run, _ = notes.get(trial, ("", 0))
        if not run:
            left.append(f"MLflow at {_target(uri)} shows no trial {trial}, so it has no {folder}")
            continue
        try:
            client = MlflowClient(tracking_uri=uri)
            for path in paths:
                client.log_artifact(run, str(path), folder)
        except AWAY as error:
            why = shown(str(error).splitlines()[0])
            left.append(f"MLflow has no {folder} of trial {trial}: {why}; the same command again")
    return left


def _target(uri: str) -> str:
    """Return what the journal calls the MLflow at *uri*: many may read that."""
    return shown(uri) if has_secret(uri) else uri


def _name(text: str) -> str:
    """Return *text* with an underscore for each character that MLflow does not take in a name."""
    return re.sub(r"[^\w./: -]", "_", text)
