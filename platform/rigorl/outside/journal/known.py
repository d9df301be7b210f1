"""What is known of the trials of a study, read in bulk: a million reports in seconds."""

from typing import Any

import msgspec
import sqlalchemy as sa

from rigorl import search
from rigorl.outside.journal.tables import UNREAD, failures, mirrored, places, reports, trials
from rigorl.search import Standing
from rigorl.trial import Failure, Report, Trial


def standings(db: sa.Connection, study: str) -> dict[str, Standing]:
    """Return the standing of each trial of *study* of which anything is known."""
    values: dict[str, dict[int, float]] = {}
    for trial, rung, value in db.execute(_rungs(study)):
        values.setdefault(trial, {}).setdefault(rung, value)
    for order, body in db.execute(_unread(study)):
        trial = msgspec.json.decode(order, type=Trial)
        report = msgspec.msgpack.decode(body, type=Report)
        if report.rung is not None:
            values.setdefault(trial.id, {})[report.rung] = search.value(trial, report)
    finished = set(db.scalars(_of(study, places.c.trial).where(places.c.finished)))
    broken = failed(db, study)
    return {
        trial: Standing(values.get(trial, {}), trial in finished, broken.get(trial))
        for trial in values.keys() | finished | broken.keys()
    }


def newest(db: sa.Connection, study: str, since: int) -> dict[str, tuple[int, int, bool]]:
    """Return the last row of each trial of *study* that reported after row *since*."""
    rows = sa.select(reports.c.trial, reports.c.seq, reports.c.at, reports.c.finished)
    # First what is new, which is little: a planner left to itself goes through all trials.
    new = rows.where(reports.c.seq > since).cte("new").prefix_with("MATERIALIZED")
    finished = sa.func.max(sa.cast(new.c.finished, sa.Integer))
    query = (
        sa.select(new.c.trial, sa.func.max(new.c.seq), sa.func.max(new.c.at), finished)
        .join(trials, trials.c.id == new.c.trial)
        .where(trials.c.study == study)
        .group_by(new.c.trial)
        .order_by(sa.func.min(new.c.seq))
    )
    return {trial: (seq, at, bool(ended)) for trial, seq, at, ended in db.execute(query)}


def failed(db: sa.Connection, study: str) -> dict[str, Failure]:
    """Return the failures of *study*, by trial."""
    found = db.execute(_of(study, failures.c.trial, failures.c.body))
    return {trial: msgspec.msgpack.decode(body, type=Failure) for trial, body in found}


def behind(db: sa.Connection, study: str) -> int | None:
    """Return how many reports of *study* MLflow does not show yet; None if it never showed it.

    Of several places that show it, at the one that is furthest behind.
    """
    shown = db.scalar(
        sa.select(sa.func.min(mirrored.c.seq)).where(mirrored.c.what == f"study:{study}")
    )
    if shown is None:
        return None
    new = _of(study, reports.c.trial).where(reports.c.seq > shown).subquery()
    return db.scalar(sa.select(sa.func.count()).select_from(new))


def _of(study: str, trial: sa.Column[str], *columns: sa.Column[Any]) -> sa.Select[Any]:
    """Select *trial* and *columns*, which lie in its table, of the trials of *study*."""
    return (
        sa.select(trial, *columns).join(trials, trials.c.id == trial).where(trials.c.study == study)
    )


def _rungs(study: str) -> sa.Select[Any]:
    query = _of(study, reports.c.trial, reports.c.rung, reports.c.value)
    return query.where(reports.c.value.is_not(None)).order_by(reports.c.seq)


def _unread(study: str) -> sa.Select[Any]:
    """Select the reports of a time when rungs and values did not lie beside them."""
    query = sa.select(trials.c.body, reports.c.body).join(trials, trials.c.id == reports.c.trial)
    return query.where(trials.c.study == study, reports.c.rung == UNREAD)
