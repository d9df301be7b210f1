"""The journal: every report of every trial, and what searches tried. SQLAlchemy Core.

It holds what happened and nothing else: who won, who was pruned and what is left to do are
worked out from it. Reports are stored as MessagePack, which keeps NaN, infinity and the
difference between 1 and 1.0. When they came lies beside them, in `rigorl_batches`.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, String, Table, Text
from sqlalchemy.exc import SQLAlchemyError

from rigorl.errors import DivergedError, JournalError
from rigorl.spec import Experiment
from rigorl.trial import Beat, Event, Failure, Report, Trial

Config = Mapping[str, Any]
DatabaseError = SQLAlchemyError
meta = sa.MetaData()
studies = Table(
    "rigorl_studies",
    meta,
    Column("name", String(200), primary_key=True),
    Column("spec", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)
trials = Table(
    "rigorl_trials",
    meta,
    Column("id", String(16), primary_key=True),
    Column("study", String(200), nullable=False, index=True),
    Column("body", Text, nullable=False),
)
batches = Table(
    "rigorl_batches",
    meta,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
)
reports = Table(
    "rigorl_reports",
    meta,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("batch", Integer, nullable=False),
    Column("trial", String(16), nullable=False),
    Column("stage", Integer, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("update", BigInteger, nullable=False),
    Column("finished", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sa.UniqueConstraint("trial", "stage", "step", "update"),
)
failures = Table(
    "rigorl_failures",
    meta,
    Column("trial", String(16), primary_key=True),
    Column("lasting", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
beats = Table(
    "rigorl_beats",
    meta,
    Column("trial", String(16), primary_key=True),
    Column("stage", Integer, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("update", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
)
candidates = Table(
    "rigorl_candidates",
    meta,
    Column("search", String(16), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("config", Text, nullable=False),
)
mirrored = Table(
    "rigorl_mirrored",
    meta,
    Column("target", String(400), primary_key=True),
    Column("what", String(200), primary_key=True),
    Column("run", String(64), nullable=False),
    Column("seq", Integer, nullable=False),
)


class Row(NamedTuple):
    """A report with its place in the journal and the time it came, in ms since 1970."""

    seq: int
    at: int
    report: Report


class State(NamedTuple):
    """How far a trial is. `at` is the time of its last sign of life, in ms since 1970."""

    trial: Trial
    stage: int
    step: int
    finished: bool
    failure: Failure | None
    at: int


class SqlJournal:
    """A journal at a database URL; see `at_home` for the usual file."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = sa.create_engine(url)
        if self.engine.dialect.name == "sqlite":
            sa.event.listen(self.engine, "connect", _lasting)
        with self._transaction() as db:
            meta.create_all(db)

    def close(self) -> None:
        self.engine.dispose()

    def begin(self, spec: Experiment) -> None:
        """Open a study, or take it up again: failures that need not last are forgotten."""
        text = msgspec.json.encode(spec).decode()
        ours = sa.select(trials.c.id).where(trials.c.study == spec.name)
        with self._transaction() as db:
            db.execute(studies.delete().where(studies.c.name == spec.name))
            db.execute(studies.insert().values(name=spec.name, spec=text, at=_now()))
            db.execute(failures.delete().where(failures.c.trial.in_(ours), ~failures.c.lasting))

    def record(self, of: Sequence[Trial], events: Sequence[Event]) -> None:
        """Insert or compare, in one transaction: all of *events*, or none."""
        with self._transaction() as db:
            _enrol(db, of)
            told = [event for event in events if isinstance(event, Report)]
            if told:
                _insert_or_compare(db, told)
            for event in events:
                if isinstance(event, Failure):
                    _replace(db, failures, "trial", _failure_row(event))
                elif isinstance(event, Beat):
                    _replace(db, beats, "trial", _beat_row(event))

    def reports(self, of: Collection[str]) -> Mapping[str, Sequence[Report]]:
        told: dict[str, list[Report]] = {}
        for row in self.rows(of):
            told.setdefault(row.report.trial, []).append(row.report)
        return told

    def rows(self, of: Collection[str] = (), study: str | None = None, since: int = 0) -> list[Row]:
        """Return what was reported after row *since* of these trials, or of all of *study*.

        In the order in which it came.
        """
        query = (
            sa.select(reports.c.seq, batches.c.at, reports.c.body)
            .join(batches, batches.c.id == reports.c.batch)
            .where(reports.c.seq > since)
            .order_by(reports.c.seq)
        )
        if study is None:
            query = query.where(reports.c.trial.in_(sorted(of)))
        else:
            query = query.join(trials, trials.c.id == reports.c.trial)
            query = query.where(trials.c.study == study)
        with self._transaction() as db:
            found = db.execute(query).fetchall()
        return [Row(seq, at, msgspec.msgpack.decode(b, type=Report)) for seq, at, b in found]

    def failures(self, of: Collection[str]) -> Mapping[str, Failure]:
        query = sa.select(failures.c.body).where(failures.c.trial.in_(sorted(of)))
        with self._transaction() as db:
            found = [msgspec.msgpack.decode(body, type=Failure) for (body,) in db.execute(query)]
        return {failure.trial: failure for failure in found}

    def propose(self, search_id: str, number: int, config: Config) -> None:
        text = msgspec.json.encode(config).decode()
        with self._transaction() as db:
            db.execute(candidates.insert().values(search=search_id, number=number, config=text))

    def proposed(self, search_id: str) -> Mapping[int, Config]:
        query = sa.select(candidates.c.number, candidates.c.config)
        with self._transaction() as db:
            found = db.execute(query.where(candidates.c.search == search_id)).fetchall()
        return {number: msgspec.json.decode(text) for number, text in found}

    def names(self) -> list[str]:
        """Return the names of the studies, the latest first."""
        with self._transaction() as db:
            return list(db.scalars(sa.select(studies.c.name).order_by(studies.c.at.desc())))

    def spec(self, name: str) -> Experiment:
        """Return the spec with which the study *name* was last run."""
        with self._transaction() as db:
            text = db.scalar(sa.select(studies.c.spec).where(studies.c.name == name))
        return msgspec.json.decode(text or b"null", type=Experiment)

    def trials(self, study: str) -> list[Trial]:
        """Return the trials of *study* of which anything was ever recorded."""
        query = sa.select(trials.c.body).where(trials.c.study == study)
        with self._transaction() as db:
            return [msgspec.json.decode(text, type=Trial) for text in db.scalars(query)]

    def states(self, study: str) -> list[State]:
        """Return how far each trial of *study* is."""
        known = {trial.id: trial for trial in self.trials(study)}
        latest = (
            sa.select(
                reports.c.trial,
                reports.c.stage,
                reports.c.step,
                reports.c.finished,
                batches.c.at,
            )
            .join(batches, batches.c.id == reports.c.batch)
            .where(
                reports.c.seq.in_(
                    sa.select(sa.func.max(reports.c.seq))
                    .where(reports.c.trial.in_(sorted(known)))
                    .group_by(reports.c.trial)
                )
            )
        )
        beating = sa.select(beats).where(beats.c.trial.in_(sorted(known)))
        with self._transaction() as db:
            last = {row.trial: row for row in db.execute(latest)}
            alive = {row.trial: row for row in db.execute(beating)}
        failed = self.failures(known)
        return [
            _state(trial, last.get(id_), alive.get(id_), failed.get(id_))
            for id_, trial in known.items()
        ]

    def mirrored(self, target: str) -> dict[str, tuple[str, int]]:
        """Return, for each thing shown at *target*, its run there and the last row shown."""
        query = sa.select(mirrored).where(mirrored.c.target == target)
        with self._transaction() as db:
            return {row.what: (row.run, row.seq) for row in db.execute(query)}

    def forget_mirrored(self, target: str, study: str) -> None:
        """Note that nothing of *study* is shown at *target*."""
        ours = sa.select(trials.c.id).where(trials.c.study == study)
        of_study = mirrored.c.what.in_(ours) | (mirrored.c.what == f"study:{study}")
        with self._transaction() as db:
            db.execute(mirrored.delete().where(mirrored.c.target == target, of_study))

    def mark_mirrored(self, target: str, what: str, run: str, seq: int) -> None:
        """Note that *what* is shown in *run* at *target* up to row *seq*."""
        with self._transaction() as db:
            db.execute(
                mirrored.delete().where(mirrored.c.target == target, mirrored.c.what == what)
            )
            db.execute(mirrored.insert().values(target=target, what=what, run=run, seq=seq))

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self.engine.begin() as db:
                yield db
        except DatabaseError as error:
            raise JournalError(
                f"the journal must be a database one can read and write, but {self.url} says: "
                f"{str(error).splitlines()[0]}; see that the place exists and is yours"
            ) from error


def at_home(home: Path) -> SqlJournal:
    """Return the journal kept as a file in *home*."""
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(
            f"home must be a folder one can write to, but {home}: {error.strerror}; "
            "choose another with --home or RIGORL_HOME"
        ) from error
    return SqlJournal(f"sqlite:///{home / 'journal.db'}")


def _insert_or_compare(db: sa.Connection, told: Sequence[Report]) -> None:
    ids = sorted({report.trial for report in told})
    key = [reports.c.trial, reports.c.stage, reports.c.step, reports.c.update]
    query = sa.select(*key, reports.c.body).where(
        reports.c.trial.in_(ids), reports.c.step.in_({report.step for report in told})
    )
    known = {tuple(row[:4]): row.body for row in db.execute(query)}
    fresh: dict[tuple[Any, ...], dict[str, Any]] = {}
    for report in told:
        row = _report_row(report)
        at = report.trial, report.stage, report.step, report.update
        before = known.get(at) or fresh.get(at, {}).get("body")
        if before is None:
            fresh[at] = row
        elif before != row["body"] and report.exact:  # else the first one stands
            raise DivergedError(
                f"a report must be the same whenever it is made, but {report.trial} differs at "
                f"stage, step, update {at[1:]}; its agent is not deterministic, or other code "
                "made the first one"
            )
    if fresh:
        batch = db.execute(batches.insert().values(at=_now())).inserted_primary_key
        assert batch is not None  # noqa: S101
        rows = [{**row, "batch": batch[0]} for row in fresh.values()]
        db.execute(reports.insert(), rows)


def _enrol(db: sa.Connection, of: Sequence[Trial]) -> None:
    wanted = {trial.id: trial for trial in of}
    query = sa.select(trials.c.id).where(trials.c.id.in_(sorted(wanted)))
    for known in db.scalars(query):
        wanted.pop(known)
    rows = [
        {"id": id_, "study": trial.experiment, "body": msgspec.json.encode(trial).decode()}
        for id_, trial in wanted.items()
    ]
    if rows:
        db.execute(trials.insert(), rows)


def _report_row(report: Report) -> dict[str, Any]:
    return {
        "trial": report.trial,
        "stage": report.stage,
        "step": report.step,
        "update": report.update,
        "finished": report.finished,
        "body": msgspec.msgpack.encode(report, order="deterministic"),
    }


def _failure_row(failure: Failure) -> dict[str, Any]:
    body = msgspec.msgpack.encode(failure)
    return {"trial": failure.trial, "lasting": failure.lasting, "body": body}


def _beat_row(beat: Beat) -> dict[str, Any]:
    there = {column.name for column in beats.c} & {*beat.__struct_fields__}
    return {name: getattr(beat, name) for name in there} | {"at": _now()}


def _replace(db: sa.Connection, table: Table, key: str, row: dict[str, Any]) -> None:
    db.execute(table.delete().where(table.c[key] == row[key]))
    db.execute(table.insert().values(row))


def _state(trial: Trial, last: Any, beat: Any, failure: Failure | None) -> State:
    seen = [row for row in (last, beat) if row is not None]
    newest = max(seen, key=lambda row: (row.stage, row.step), default=None)
    return State(
        trial=trial,
        stage=newest.stage if newest else 0,
        step=newest.step if newest else 0,
        finished=bool(last is not None and last.finished),
        failure=failure,
        at=max((row.at for row in seen), default=0),
    )


def _lasting(connection: Any, _: Any) -> None:
    """Readers beside one writer, and what is committed survives a loss of power."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.close()


def _now() -> int:
    return int(time.time() * 1000)
