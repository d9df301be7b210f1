"""What drivers say while they drive, kept in the journal: there when their machine is gone.

A thread writes it in batches. A journal that is away loses lines, never a run, and a driver that
another one has replaced may still say so: these are words, not results.
"""

import logging
import threading
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from rigorl.errors import JournalError, RigorlError, Stopped
from rigorl.outside.journal.database import Database
from rigorl.outside.journal.tables import lines

EVERY = 1.0
"""Seconds between two batches."""
KEPT = 5_000
"""Lines of a study that are kept: progress is told every few seconds, for weeks."""
WAITING = 500
"""Lines that wait for a journal that is away, at most; the oldest are lost first."""
LONGEST = 100_000
"""Characters of a line that are kept."""
LAST_PATIENCE = 2.0
"""Seconds that the end of a program waits for a journal that is away."""
FORMAT = logging.Formatter("rigorl: %(message)s")


class Lines(logging.Handler):
    """Keeps what is said about *study*: by `add`, by the house's log, and by its end.

    Use as a context around a run.
    """

    def __init__(self, database: Database, study: str) -> None:
        super().__init__()
        self.setFormatter(FORMAT)
        self.database, self.study = database, study
        self._new: deque[tuple[str, int]] = deque(maxlen=WAITING)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lines", daemon=True)

    def __enter__(self) -> Self:
        logging.getLogger("rigorl").addHandler(self)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        logging.getLogger("rigorl").removeHandler(self)
        if isinstance(error, Stopped):
            self.add("rigorl: stopped; the same command goes on from here")
        elif isinstance(error, RigorlError):
            self.add(f"rigorl: {error}")
        elif kind is not None:
            self.add(f"rigorl: {kind.__name__}: {error}")
        self._stop.set()
        self._thread.join(LAST_PATIENCE)
        if not self._thread.is_alive():  # else the journal is away
            self._write(LAST_PATIENCE)

    def add(self, text: str) -> None:
        self._new.append((text[:LONGEST], int(time.time() * 1000)))

    def emit(self, record: logging.LogRecord) -> None:
        self.add(self.format(record))

    def _keep(self) -> None:
        while not self._stop.wait(EVERY):
            self._write(0.0)

    def _write(self, patience: float) -> None:
        batch = list(self._new)
        if not batch:
            return
        rows = [{"study": self.study, "text": text, "at": at} for text, at in batch]
        with suppress(JournalError):  # the driver says it
            self.database.write(lambda db: _insert(db, self.study, rows), patience)
            written = {id(one) for one in batch}
            while self._new and id(self._new[0]) in written:  # more may have come meanwhile
                self._new.popleft()


def _insert(db: sa.Connection, study: str, rows: list[dict[str, Any]]) -> None:
    """Insert those of *rows* that are not there: the answer to an earlier asking may be lost."""
    ours = lines.c.study == study
    since = lines.c.at >= min(row["at"] for row in rows)
    found = db.execute(sa.select(lines.c.at, lines.c.text).where(ours, since))
    there = {(row.at, row.text) for row in found}
    new = [row for row in rows if (row["at"], row["text"]) not in there]
    if new:
        db.execute(lines.insert(), new)
    ids = sa.select(lines.c.id).where(ours).order_by(lines.c.id.desc())
    first = db.scalar(ids.offset(KEPT - 1).limit(1))
    if first is not None:
        db.execute(lines.delete().where(ours, lines.c.id < first))


def said(database: Database, study: str, since: int = 0) -> list[tuple[int, str]]:
    """Return what was said about *study* after line *since*, each with its place."""
    query = sa.select(lines.c.id, lines.c.text).where(lines.c.study == study, lines.c.id > since)
    found = database.read(lambda db: db.execute(query.order_by(lines.c.id)).fetchall())
    return [(row.id, row.text) for row in found]
