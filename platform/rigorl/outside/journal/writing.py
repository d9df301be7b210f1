"""What one call of `record` writes: in one transaction, all of it or none."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
import sqlalchemy as sa

from rigorl import search
from rigorl.errors import DivergedError
from rigorl.outside.journal.database import insert_new, replace
from rigorl.outside.journal.tables import (
    attempts,
    failures,
    places,
    reports,
    trials,
    troubles,
    waits,
)
from rigorl.search import NEWBORN, Standing
from rigorl.trial import Beat, Event, Failure, Report, Start, Trial, Trouble, Waiting

encode = msgspec.msgpack.Encoder(order="deterministic").encode
KEY = ("trial", "stage", "step", "update")
ATTEMPT = ("trial", "stage", "step", "host", "note")


class Writing:
    """The rows that *events* become. Written twice they are the same rows."""

    def __init__(self, of: Sequence[Trial], events: Sequence[Event], at: int) -> None:
        by_id = {trial.id: trial for trial in of}
        self.told = [event for event in events if isinstance(event, Report)]
        self.reports = [_report_row(by_id[report.trial], report, at) for report in self.told]
        self.failures = [event for event in events if isinstance(event, Failure)]
        self.attempts = [
            {name: getattr(event, name) for name in ATTEMPT} | {"at": at}
            for event in events
            if isinstance(event, Start)
        ]
        self.troubles = [
            {"trial": event.trial, "cause": event.cause, "at": at}
            for event in events
            if isinstance(event, Trouble)
        ]
        self.waits = {
            event.trial: {"trial": event.trial, "cause": event.cause, "at": at}
            for event in events
            if isinstance(event, Waiting)
        }
        self.places: dict[str, dict[str, Any]] = {}
        for event in events:
            if isinstance(event, Start | Report | Beat):
                self._move(event, at)
        for row in self.reports:
            self.places[row["trial"]]["finished"] |= row["finished"]
            if row["value"] is not None:
                self.places[row["trial"]]["value"] = row["value"]

    def _move(self, event: Report | Beat | Start, at: int) -> None:
        place = self.places.setdefault(
            event.trial, {"trial": event.trial, "finished": False, "value": None, "seconds": None}
        )
        place |= {"stage": event.stage, "step": event.step, "at": at}
        place["update"] = 0 if isinstance(event, Start) else event.update
        if isinstance(event, Beat):
            place["seconds"] = msgspec.json.encode(event.seconds).decode()

    def run(self, db: sa.Connection) -> None:
        """Insert or compare."""
        rows = self._firsts(db)
        if rows and insert_new(db, reports, rows) != len(rows):
            self._compare(db)
        if self.places:
            replace(
                db,
                places,
                list(self.places.values()),
                finished=sa.or_,
                value=_latest,
                seconds=_latest,
            )
        if self.troubles:
            db.execute(troubles.insert(), self.troubles)
        if self.waits:
            replace(db, waits, list(self.waits.values()))
        if self.attempts:
            begun = {row["trial"] for row in self.attempts} - self.waits.keys()
            db.execute(waits.delete().where(waits.c.trial.in_(sorted(begun))))
            db.execute(attempts.insert(), self.attempts)
        for failure in self.failures:
            row = {"trial": failure.trial, "lasting": failure.lasting, "body": encode(failure)}
            replace(db, failures, [row])

    def leave_behind(self, db: sa.Connection) -> None:
        """Do not say of a trial that is further already that it is here."""
        far = sa.select(places.c.trial, places.c.finished, places.c.stage, places.c.step)
        for trial, *there in db.execute(far.where(places.c.trial.in_(sorted(self.places)))):
            place = self.places[trial]
            if there >= [place["finished"], place["stage"], place["step"]]:
                del self.places[trial]

    def _firsts(self, db: sa.Connection) -> list[dict[str, Any]]:
        """Leave out what an inexact agent tells again: at other steps, it is the same rung."""
        loose = sorted({report.trial for report in self.told if not report.exact})
        if not loose:
            return self.reports
        query = sa.select(reports.c.trial, reports.c.rung).where(reports.c.trial.in_(loose))
        seen = {(trial, rung) for trial, rung in db.execute(query) if rung is not None}
        return [row for row in self.reports if (row["trial"], row["rung"]) not in seen]

    def note(self, known: dict[str, Standing]) -> None:
        """Bring *known*, the standings of a study, up to what was written."""
        for row in self.reports:
            before = known.get(row["trial"], NEWBORN)
            values = {row["rung"]: row["value"], **before.values}
            values.pop(None, None)  # an exam between two rungs has none
            finished = before.finished or row["finished"]
            known[row["trial"]] = before._replace(values=values, finished=finished)
        for failure in self.failures:
            before = known.get(failure.trial, NEWBORN)
            known[failure.trial] = before._replace(failure=failure)

    def _compare(self, db: sa.Connection) -> None:
        """Refuse a report whose key has other bytes in the journal."""
        query = sa.select(*(reports.c[name] for name in KEY), reports.c.body).where(
            reports.c.trial.in_(sorted({report.trial for report in self.told})),
            reports.c.step.in_({report.step for report in self.told}),
        )
        stored = {tuple(row[:-1]): row.body for row in db.execute(query)}
        for report, row in zip(self.told, self.reports, strict=True):
            at = tuple(row[name] for name in KEY)
            if report.exact and stored[at] != row["body"]:  # else the first one stands
                raise DivergedError(
                    f"a report must be the same whenever it is made, but {report.trial} differs "
                    f"at stage, step, update {at[1:]}; its agent is not deterministic, or other "
                    "code made the first one"
                )


def _latest(old: Any, new: Any) -> Any:
    return sa.func.coalesce(new, old)


def enrol(
    db: sa.Connection,
    of: Sequence[Trial],
    codes: Mapping[str, str],
    accepted: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Note those of the trials that are not known yet, and, by agent, which code makes them."""
    rows = [
        {
            "id": trial.id,
            "study": trial.experiment,
            "body": msgspec.json.encode(trial).decode(),
            "code": codes.get(trial.agent.name, ""),
            "accepted": accepted.get(trial.agent.name, ""),
        }
        for trial in of
    ]
    if rows:
        insert_new(db, trials, rows)


def _report_row(trial: Trial, report: Report, at: int) -> dict[str, Any]:
    return {
        "trial": report.trial,
        "stage": report.stage,
        "step": report.step,
        "update": report.update,
        "rung": report.rung,
        "value": None if report.rung is None else search.value(trial, report),
        "finished": report.finished,
        "at": at,
        "body": encode(report),
    }
