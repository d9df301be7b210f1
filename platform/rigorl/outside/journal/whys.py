"""What befell trials on their way, and who drives them: read for a person, never for a result."""

import time
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from rigorl.outside.journal.database import Database
from rigorl.outside.journal.lease import BEAT, Holder, look
from rigorl.outside.journal.tables import attempts, trials, troubles, waits

PATIENCE = 3 * BEAT
"""Seconds in which a driver on another machine must give a sign of life."""


class Past(NamedTuple):
    """What befell a trial: why it waits, what its attempts died of, and where the last one is."""

    waits: str = ""
    troubles: tuple[str, ...] = ()
    attempts: int = 0
    host: str = ""
    at: int = 0
    """When it was last taken up, in ms since 1970."""


def pasts(database: Database, study: str) -> dict[str, Past]:
    """Return the past of each trial of *study* that has one."""
    found: dict[str, Past] = {}
    for trial, *last in database.read(lambda db: _attempts(db, study)):
        found[trial] = Past("", (), *last)
    for trial, cause in database.read(lambda db: _causes(db, study, troubles)):
        past = found.get(trial, Past())
        found[trial] = past._replace(troubles=(*past.troubles, cause))
    for trial, cause in database.read(lambda db: _causes(db, study, waits)):
        found[trial] = found.get(trial, Past())._replace(waits=cause)
    return found


def driver(database: Database, study: str) -> str:
    """Say why nobody drives *study*, though nobody let go of it; empty if all is well.

    A driver on another machine is watched for a moment: only its signs of life can tell.
    """
    found = look(database, study)
    if found is None or found.holder is None:
        return ""
    holder = msgspec.json.decode(found.holder, type=Holder)
    if holder.is_gone():
        return f"its driver, {_plainly(holder)}, died"
    if holder.is_elsewhere():
        start = time.monotonic()
        while time.monotonic() - start < PATIENCE:
            time.sleep(BEAT / 4)
            again = look(database, study)
            if again is None or again[1:] != found[1:]:
                return ""
        return f"its driver, {_plainly(holder)}, gave no sign of life for {PATIENCE:.0f} s"
    return ""


def hosts(database: Database, study: str) -> dict[str, int]:
    """Return which machines played trials of *study*, and how many attempts each."""
    query = (
        sa.select(attempts.c.host, sa.func.count().label("number"))
        .join(trials, trials.c.id == attempts.c.trial)
        .where(trials.c.study == study)
        .group_by(attempts.c.host)
        .order_by(attempts.c.host)
    )
    found = database.read(lambda db: db.execute(query).fetchall())
    return {row.host: row.number for row in found}


def _plainly(holder: Holder) -> str:
    return f"process {holder.pid} on {holder.host.split()[0]}"


def _attempts(db: sa.Connection, study: str) -> list[Any]:
    """Return the number of attempts of each trial, and the place and time of the last one."""
    last = (
        sa.select(sa.func.max(attempts.c.id).label("id"), sa.func.count().label("number"))
        .join(trials, trials.c.id == attempts.c.trial)
        .where(trials.c.study == study)
        .group_by(attempts.c.trial)
        .subquery()
    )
    columns = attempts.c.trial, last.c.number, attempts.c.host, attempts.c.at
    return list(db.execute(sa.select(*columns).join(last, last.c.id == attempts.c.id)))


def _causes(db: sa.Connection, study: str, told: sa.Table) -> list[Any]:
    query = sa.select(told.c.trial, told.c.cause).join(trials, trials.c.id == told.c.trial)
    return list(db.execute(query.where(trials.c.study == study).order_by(told.c.at)))
