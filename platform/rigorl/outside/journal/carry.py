"""A study as text, from one machine to another: a line for each thing that is known.

The lines are sorted and hold no times, so two runs of one study, interrupted or not, are the
same text. Numbers that JSON has no words for are written as `{"float": "nan"}`.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from rigorl import growth
from rigorl.errors import DivergedError, IncompleteResults, JournalError
from rigorl.outside.journal.database import insert_new, replace
from rigorl.outside.journal.lease import Lease
from rigorl.outside.journal.sql import SqlJournal
from rigorl.outside.journal.tables import candidates, failures, reports, studies, trials
from rigorl.outside.journal.writing import Writing, enrol
from rigorl.spec import Experiment
from rigorl.trial import Failure, Report, Trial

FORMAT = "rigorl study, form 1"


class Candidate(msgspec.Struct, frozen=True):
    """What a search tried."""

    search: str
    number: int
    config: dict[str, Any]


class Made(msgspec.Struct, frozen=True):
    """A trial, and the code that made it."""

    trial: Trial
    code: str
    accepted: str = ""


KINDS: dict[str, Any] = {
    "study": Experiment,
    "candidate": Candidate,
    "trial": Made,
    "failure": Failure,
    "report": Report,
}


Carried = Mapping[str, list[Any]]
"""What is known of a study, by kind."""


def export_study(journal: SqlJournal, study: str) -> Iterator[str]:
    """Yield the lines of *study*, in their order."""
    spec = journal.spec(study)
    if spec is None:
        known = ", ".join(journal.names()) or "none"
        raise IncompleteResults(
            f"a study must be one that was run, but {study!r} was not; known here: {known}"
        )
    yield _line("format", FORMAT)
    yield _line("study", spec)
    lines = 3
    for kind, things in journal.database.read(lambda db: _of(db, study)).items():
        yield from sorted(_line(kind, thing) for thing in things)
        lines += len(things)
    yield _line("lines", lines)


def _of(db: sa.Connection, study: str) -> dict[str, list[Any]]:
    def rows(*columns: Any, of: sa.ColumnElement[Any]) -> Any:
        query = sa.select(*columns).where(of)
        if columns[0].table not in (trials, candidates):
            query = query.join(trials, trials.c.id == columns[0].table.c.trial)
        return db.execute(query)

    ours = trials.c.study == study
    # The first version did not note whose candidates they are: they go with every study.
    whose = candidates.c.study.in_([study, ""])
    proposed = rows(candidates.c.search, candidates.c.number, candidates.c.config, of=whose)
    failed = rows(failures.c.body, of=ours & failures.c.lasting)
    return {
        "candidate": [Candidate(s, n, msgspec.json.decode(text)) for s, n, text in proposed],
        "trial": [
            Made(msgspec.json.decode(body, type=Trial), *made_by)
            for body, *made_by in rows(trials.c.body, trials.c.code, trials.c.accepted, of=ours)
        ],
        "failure": [msgspec.msgpack.decode(body, type=Failure) for (body,) in failed],
        "report": [
            msgspec.msgpack.decode(body, type=Report) for (body,) in rows(reports.c.body, of=ours)
        ],
    }


def import_study(journal: SqlJournal, found: Carried) -> str:
    """Add what was *found* to *journal*, all or nothing; return the name of the study."""
    (spec,) = found["study"]
    lease = Lease(journal.database, spec.name)
    lease.take()
    try:
        journal.database.write(lambda db: _add(db, lease, found, journal.now()))
    finally:
        lease.release()
    return str(spec.name)


def read_study(lines: Iterable[str]) -> Carried:
    """Return what *lines*, which `export_study` wrote, hold."""
    found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    number, said = 0, None
    for number, line in enumerate(lines, 1):
        try:
            ((kind, value),) = json.loads(line).items()
            if number == 1:
                _check_format(kind, value)
            elif kind == "lines":
                said = value
            else:
                found[kind].append(msgspec.convert(_read(value), KINDS[kind]))
        except (ValueError, KeyError, AttributeError, msgspec.ValidationError) as error:
            raise JournalError(
                "what is imported must be lines that `rigorl export` wrote, but line "
                f"{number} is not: {error}; export it again"
            ) from error
    known = {made.trial.id for made in found["trial"]}
    strangers = {thing.trial for thing in (*found["report"], *found["failure"])} - known
    if said != number or len(found["study"]) != 1 or strangers:
        raise JournalError(
            f"what is imported must be one whole study, but has {len(found['study'])} studies and "
            f"{number} lines, its last line says {said}, and reports of {len(strangers)} trials "
            "that are not there; export it again"
        )
    return found


def _check_format(kind: str, value: Any) -> None:
    if (kind, value) != ("format", FORMAT):
        raise ValueError(f"it begins with {kind} {value!r} instead of format {FORMAT!r}")


def _add(db: sa.Connection, lease: Lease, found: Carried, at: int) -> None:
    """Write what was *found*, as if it came *at* this moment."""
    lease.check(db)
    (spec,) = found["study"]
    query = sa.select(studies.c.spec, studies.c.state).where(studies.c.name == spec.name)
    text, state = db.execute(query).one_or_none() or (None, "imported")
    kept = spec if text is None else _joined(msgspec.json.decode(text, type=Experiment), spec)
    row = {"name": spec.name, "spec": msgspec.json.encode(kept).decode(), "at": at, "state": state}
    replace(db, studies, [row])
    for made in found["trial"]:
        agent = made.trial.agent.name
        enrol(db, [made.trial], {agent: made.code}, {agent: made.accepted})
    orders = [made.trial for made in found["trial"]]
    told = sorted(found["report"], key=lambda r: (r.trial, r.stage, r.step, r.update))
    writing = Writing(orders, [*told, *found["failure"]], at)
    writing.leave_behind(db)
    writing.run(db)
    for candidate in found["candidate"]:
        _add_candidate(db, candidate, spec.name)


def _joined(here: Experiment, there: Experiment) -> Experiment:
    """Return the one of the two specs that has grown from the other."""
    if not growth.differences(here, there):
        return there
    if differences := growth.differences(there, here):
        raise JournalError(
            f"a study of one name must be one study, but {here.name!r} differs from the one that "
            f"is here: {'; '.join(differences)}; import it into another journal"
        )
    return here


def _add_candidate(db: sa.Connection, candidate: Candidate, study: str) -> None:
    text = msgspec.json.encode(candidate.config).decode()
    key = {"search": candidate.search, "number": candidate.number}
    if not insert_new(db, candidates, [{**key, "config": text, "study": study}]):
        query = sa.select(candidates.c.config).filter_by(**key)
        if db.scalar(query) != text:
            raise DivergedError(
                f"candidate {candidate.number} of a search must be the same everywhere, but is "
                f"{text} there and {db.scalar(query)} here; import it into another journal"
            )


def _line(kind: str, thing: Any) -> str:
    value = _written(msgspec.to_builtins(thing))
    return json.dumps({kind: value}, sort_keys=True, allow_nan=False, separators=(",", ":"))


def _written(value: Any) -> Any:
    """Return *value* in words that JSON has."""
    match value:
        case float() if not math.isfinite(value):
            return {"float": str(value)}
        case dict():
            return {key: _written(item) for key, item in value.items()}
        case list() | tuple():
            return [_written(item) for item in value]
    return value


def _read(value: Any) -> Any:
    """Return what `_written` made words of."""
    match value:
        case {"float": str(text), **rest} if not rest:
            return float(text)
        case dict():
            return {key: _read(item) for key, item in value.items()}
        case list():
            return [_read(item) for item in value]
    return value
