"""The journal: every report of every trial, and what searches tried.

It holds what happened and nothing else: who won, who was pruned and what is left to do are
worked out from it.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import sqlalchemy as sa

from rigorl import crash
from rigorl.errors import JournalError
from rigorl.outside.journal import schema
from rigorl.outside.journal.consent import accept_code, objection
from rigorl.outside.journal.database import Database, insert_new, replace
from rigorl.outside.journal.known import behind, failed, newest, standings
from rigorl.outside.journal.lease import Lease, forget_stop, is_driven
from rigorl.outside.journal.tables import (
    candidates,
    failures,
    mirrored,
    places,
    reports,
    studies,
    trials,
    waits,
)
from rigorl.outside.journal.writing import Writing, enrol
from rigorl.search import Standing
from rigorl.spec import Experiment
from rigorl.trial import Event, Failure, Report, Start, Trial

Config = Mapping[str, Any]
Ending = Literal["done", "failed", "stopped"]
log = logging.getLogger("rigorl.journal")
MANY = 500
"""Trials that are asked for in one query."""


class Row(NamedTuple):
    """A report with its place in the journal and the time it came, in ms since 1970."""

    seq: int
    at: int
    report: Report


class State(NamedTuple):
    """How far a trial is. `at` is the time of its last sign of life, in ms since 1970.

    `value` is what it was worth at its last rung, `seconds` what its last attempt spent on
    learning, exams and checkpoints.
    """

    trial: Trial
    stage: int = 0
    step: int = 0
    finished: bool = False
    value: float | None = None
    failure: Failure | None = None
    seconds: Mapping[str, float] = {}
    at: int = 0


class SqlJournal:
    """A journal at a database URL; see `at_home` for the usual file.

    `clock` gives seconds since 1970. It may step: times in the journal never go back.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self.database = Database(url)
        self.clock = clock
        self._lease: Lease | None = None
        self._known: dict[str, dict[str, Standing]] = {}
        self._codes: Mapping[str, str] = {}
        self._enrolled: set[str] = set()
        self._trials: dict[str, Trial] = {}
        """Those that `states` has read, by their text: they are asked for every second."""
        schema.bring_up(self.database)
        self._latest = self.database.read(_latest)

    @property
    def name(self) -> str:
        return self.database.name

    def close(self) -> None:
        """Let go of the study, which counts as stopped if it did not `end`."""
        try:
            self.end("stopped")
        except JournalError as error:  # the lease ages by itself; what went wrong before counts
            log.warning("%s", error)
        self.database.close()

    def begin(
        self, spec: Experiment, codes: Mapping[str, str] | None = None, *, accept: bool = False
    ) -> None:
        """Open a study, or take it up again: failures that need not last are forgotten.

        *codes* says which code plays each agent now. Refuse a spec that is not the study's,
        grown, and trials of other code, unless they are to be *accept*ed.
        """
        lease = Lease(self.database, spec.name, obeys=True)
        lease.take()
        self._lease, self._codes = lease, codes or {}
        objection = self.objection(spec, {} if accept else self._codes)
        if objection:
            self.end(None)
            raise JournalError(objection)
        ours = sa.select(trials.c.id).where(trials.c.study == spec.name)
        row = {"name": spec.name, "spec": msgspec.json.encode(spec).decode(), "state": "running"}

        def open_(db: sa.Connection) -> None:
            replace(db, studies, [row | {"at": self.now()}])
            forget_stop(db, spec.name)
            db.execute(failures.delete().where(failures.c.trial.in_(ours), ~failures.c.lasting))
            db.execute(waits.delete().where(waits.c.trial.in_(ours)))
            if accept:
                accept_code(db, spec.name, self._codes)

        self._write(open_)
        self._known.pop(spec.name, None)

    def end(self, how: Ending | None) -> None:
        """Say how the study that was begun ended (None: as before), and let others drive it."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release(lambda db: _end(db, lease.study, how))

    def record(self, of: Sequence[Trial], events: Sequence[Event]) -> None:
        """Insert or compare, in one transaction: all of *events*, or none."""
        for event in events:
            if isinstance(event, Start) and event.note:
                log.warning("trial %s: %s", event.trial, event.note)
        new = [trial for trial in of if trial.id not in self._enrolled]
        writing = Writing(of, events, self.now())

        def write(db: sa.Connection) -> None:
            enrol(db, new, self._codes)
            writing.run(db)

        self._write(write)
        self._enrolled |= {trial.id for trial in new}
        for study in {trial.experiment for trial in of} & self._known.keys():
            writing.note(self._known[study])

    def standings(self, study: str) -> Mapping[str, Standing]:
        """Return what is known of each trial of *study*, kept up to date while we drive it."""
        if study not in self._known:
            self._known[study] = self.database.read(lambda db: standings(db, study))
        return self._known[study]

    def objection(self, spec: Experiment, codes: Mapping[str, str]) -> str | None:
        """Say why *spec*, played by *codes*, does not continue the study of its name, if so."""
        return self.database.read(lambda db: objection(db, spec, codes))

    def failures(self, of: Collection[str]) -> Mapping[str, Failure]:
        query = sa.select(failures.c.body)
        some = [query.where(failures.c.trial.in_(part)) for part in _parts(sorted(of))]
        found = self.database.read(lambda db: [b for one in some for b in db.scalars(one)])
        told = [msgspec.msgpack.decode(body, type=Failure) for body in found]
        return {failure.trial: failure for failure in told}

    def reports(self, of: Collection[str]) -> Mapping[str, Sequence[Report]]:
        told: dict[str, list[Report]] = {}
        for row in self.rows(of):
            told.setdefault(row.report.trial, []).append(row.report)
        return told

    def rows(self, of: Collection[str] = (), study: str | None = None, since: int = 0) -> list[Row]:
        """Return what was reported after row *since* of these trials, or of all of *study*.

        In the order in which it came.
        """
        query = sa.select(reports.c.seq, reports.c.at, reports.c.body).where(reports.c.seq > since)
        if study is None:
            some = [query.where(reports.c.trial.in_(part)) for part in _parts(sorted(of))]
        else:
            named = query.join(trials, trials.c.id == reports.c.trial)
            some = [named.where(trials.c.study == study)]
        found = self.database.read(lambda db: [row for one in some for row in db.execute(one)])
        decode = msgspec.msgpack.Decoder(Report).decode
        return sorted(Row(seq, at, decode(body)) for seq, at, body in found)

    def propose(self, study: str, search_id: str, number: int, config: Config) -> None:
        text = msgspec.json.encode(config).decode()
        row = {"search": search_id, "number": number, "config": text, "study": study}
        self._write(lambda db: insert_new(db, candidates, [row]))

    def proposed(self, search_id: str) -> Mapping[int, Config]:
        query = sa.select(candidates.c.number, candidates.c.config)
        found = self._rows(query.where(candidates.c.search == search_id))
        return {number: msgspec.json.decode(text) for number, text in found}

    def names(self) -> list[str]:
        """Return the names of the studies, the latest first."""
        return self._column(sa.select(studies.c.name).order_by(studies.c.at.desc()))

    def spec(self, name: str) -> Experiment | None:
        """Return the spec with which the study *name* was last run."""
        texts = self._column(sa.select(studies.c.spec).where(studies.c.name == name))
        return msgspec.json.decode(texts[0], type=Experiment) if texts else None

    def state(self, name: str) -> str:
        """Say of a study: running, done, failed, stopped, or died (its driver is gone)."""
        states = self._column(sa.select(studies.c.state).where(studies.c.name == name))
        running = states == ["running"]
        return "died" if running and not is_driven(self.database, name) else "".join(states)

    def trials(self, study: str) -> list[Trial]:
        """Return the trials of *study* of which anything was ever recorded."""
        texts = self._column(sa.select(trials.c.body).where(trials.c.study == study))
        return [msgspec.json.decode(text, type=Trial) for text in texts]

    def states(self, study: str) -> list[State]:
        """Return how far each trial of *study* is."""
        query = (
            sa.select(trials.c.body, places, failures.c.body)
            .outerjoin(places, places.c.trial == trials.c.id)
            .outerjoin(failures, failures.c.trial == trials.c.id)
            .where(trials.c.study == study)
        )
        return [self._state(*row) for row in self._rows(query)]

    def newest(self, study: str, since: int = 0) -> dict[str, tuple[int, int, bool]]:
        """Return the last row of each trial of *study* that reported after row *since*.

        As its place, the time it came, and whether the trial finished; no report is read.
        """
        return self.database.read(lambda db: newest(db, study, since))

    def failed(self, study: str) -> dict[str, Failure]:
        """Return the failures of *study*, by trial."""
        return self.database.read(lambda db: failed(db, study))

    def _state(self, body: str, *rest: Any) -> State:
        trial = self._trials.get(body)
        if trial is None:
            trial = self._trials[body] = msgspec.json.decode(body, type=Trial)
        _, stage, step, _, finished, value, seconds, at, failure = rest
        return State(
            trial=trial,
            stage=stage or 0,
            step=step or 0,
            finished=bool(finished),
            value=value,
            failure=msgspec.msgpack.decode(failure, type=Failure) if failure else None,
            seconds=msgspec.json.decode(seconds or "{}"),
            at=at or 0,
        )

    def mirrored(self, target: str) -> dict[str, tuple[str, int]]:
        """Return, for each thing shown at *target*, its run there and the last row shown."""
        query = sa.select(mirrored.c.what, mirrored.c.run, mirrored.c.seq)
        found = self._rows(query.where(mirrored.c.target == target))
        return {what: (run, seq) for what, run, seq in found}

    def behind(self, study: str) -> int | None:
        """Return how many reports of *study* are not shown in MLflow yet; None: it never was."""
        return self.database.read(lambda db: behind(db, study))

    def forget_mirrored(self, target: str, study: str) -> None:
        """Note that nothing of *study* is shown at *target*."""
        ours = sa.select(trials.c.id).where(trials.c.study == study)
        of_study = mirrored.c.what.in_(ours) | (mirrored.c.what == f"study:{study}")
        there = mirrored.delete().where(mirrored.c.target == target, of_study)
        self._write(lambda db: db.execute(there))

    def mark_mirrored(self, target: str, what: str, run: str, seq: int) -> None:
        """Note that *what* is shown in *run* at *target* up to row *seq*."""
        row = {"target": target, "what": what, "run": run, "seq": seq}
        self._write(lambda db: replace(db, mirrored, [row]))

    def _write(self, work: Callable[[sa.Connection], Any]) -> None:
        """Let *work* write, if nobody else has taken over the study that we drive."""
        lease = self._lease

        def guarded(db: sa.Connection) -> None:
            if lease is not None:
                lease.check(db)
            work(db)
            crash.point("journal.before_commit")

        self.database.write(guarded)
        crash.point("journal.after_commit")

    def _rows(self, query: sa.Select[*tuple[Any, ...]]) -> Sequence[sa.Row[*tuple[Any, ...]]]:
        return self.database.read(lambda db: db.execute(query).fetchall())

    def _column(self, query: sa.Select[*tuple[Any, ...]]) -> list[Any]:
        return [row[0] for row in self._rows(query)]

    def now(self) -> int:
        """Return the time in ms, never before one that was given already."""
        self._latest = max(self._latest, int(self.clock() * 1000))
        return self._latest


def at_home(home: Path) -> SqlJournal:
    """Return the journal kept as a file in *home*."""
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(
            f"home must be a folder one can write to, but {home}: {error.strerror}; "
            "choose another with --home or RIGORL_HOME"
        ) from error
    return SqlJournal(f"sqlite:///{home.absolute() / 'journal.db'}")


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[first : first + MANY] for first in range(0, len(ids), MANY))


def _latest(db: sa.Connection) -> int:
    """Return the time of the last report, 0 if there is none."""
    last = sa.select(sa.func.max(reports.c.seq)).scalar_subquery()
    return db.scalar(sa.select(reports.c.at).where(reports.c.seq == last)) or 0


def _end(db: sa.Connection, study: str, how: Ending | None) -> None:
    if how is not None:
        db.execute(studies.update().where(studies.c.name == study).values(state=how))
