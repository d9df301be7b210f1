"""One way to read, one way to write, and what to say when neither works.

A write is one transaction: all of it, or none. A database that goes away (a restart, a lost
connection) is asked again for a while; so what is written must bear being written twice.
"""

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from rigorl.errors import JournalError
from rigorl.hiding import is_secret, shown

T = TypeVar("T")
Work = Callable[[sa.Connection], T]
Merge = Callable[[Any, Any], Any]
"""What becomes of a column, from what is there and what comes."""
DatabaseError = SQLAlchemyError
PATIENCE = 60.0
"""Seconds for which a database that went away is asked again."""
ALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "options": "-c idle_in_transaction_session_timeout=10s -c lock_timeout=30s",
}
"""A driver that froze, or was cut off, does not keep its locks; nor does it wait for ever."""
PAUSE, REMIND = 0.5, 10.0
"""Seconds between two askings, and between two words about them."""
LOCKED_MS = 30_000
WAYS_OUT = (
    ("locked", "another program holds it; end that program, then try again"),
    ("disk is full", "the disk is full; make room, then give the same command again"),
    ("No space left", "the disk is full; make room, then give the same command again"),
    ("disk I/O error", "the disk failed or is full; look at it, then give the same command again"),
    ("readonly", "it may only be read here; choose another place with --home or --journal"),
    ("read-only", "it may only be read here; choose another place with --home or --journal"),
    ("not a database", "it is another kind of file; choose another with --home or --journal"),
    ("password", "the server refused the user or the password; correct the URL"),
    ("does not exist", "create it first, or correct the URL"),
)
log = logging.getLogger("rigorl.journal")


class Database:
    """A database at a URL: SQLite, or PostgreSQL with the extra `postgres`."""

    def __init__(self, url: str) -> None:
        try:
            self.url = sa.make_url(url)
            if self.url.drivername == "postgresql":
                self.url = self.url.set(drivername="postgresql+psycopg")
            if self.is_file:
                self.url = _as_it_may_be_opened(self.url)
            server = {} if self.is_file else {"pool_pre_ping": True, "connect_args": ALIVE}
            self.engine = sa.create_engine(self.url, **server)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
            raise JournalError(
                f"the journal must be at a database's URL, but {shown(url)!r}: "
                f"{_first_line(error)}; as sqlite:////shared/journal.db, or "
                "postgresql://user@host/name with the extra `rigorl[postgres]` installed"
            ) from error
        self._writer = self.engine.execution_options(rigorl_writes=True)
        if self.is_file:
            sa.event.listen(self.engine, "connect", _connect)
            if "uri" not in self.url.query:
                sa.event.listen(self.engine, "connect", _make_lasting)
            sa.event.listen(self.engine, "begin", _begin)

    @property
    def is_file(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def name(self) -> str:
        """Return the URL as it may be shown: without a password, wherever one stands."""
        bare = self.url.difference_update_query(filter(is_secret, self.url.query))
        return bare.render_as_string(hide_password=True)

    def close(self) -> None:
        self.engine.dispose()

    def read(self, work: Work[T]) -> T:
        """Return what *work* reads, all from one moment."""
        return self._patiently(work, self.engine, PATIENCE)

    def write(self, work: Work[T], patience: float = PATIENCE) -> T:
        """Let *work* write, in one transaction, and return what it returns."""
        return self._patiently(work, self._writer, patience)

    def _patiently(self, work: Work[T], engine: sa.Engine, patience: float) -> T:
        start = time.monotonic()
        said = -math.inf
        while True:
            try:
                with engine.begin() as db:
                    return work(db)
            except DatabaseError as error:
                left = start + patience - time.monotonic()
                if self.is_file or not _is_away(error) or left <= 0:
                    raise self._mistake(error) from error
                if time.monotonic() - said > REMIND:
                    said = time.monotonic()
                    log.warning(
                        "the journal does not answer (%s); asking again", _first_line(error)
                    )
            time.sleep(PAUSE)

    def _mistake(self, error: Exception) -> JournalError:
        text = str(error)
        way = next(
            (way for sign, way in WAYS_OUT if sign in text), "see that it is there and yours"
        )
        return JournalError(
            "the journal must be a database one can read and write, but "
            f"{self.name} says: {_first_line(error)}; {way}"
        )


def insert_new(db: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert those of *rows* whose key is not there yet, and return how many these are."""
    return db.execute(_insert(db, table).on_conflict_do_nothing(), rows).rowcount


def replace(
    db: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], **merge: Merge
) -> None:
    """Insert *rows*; where the primary key is there, replace or *merge* the other columns."""
    insert = _insert(db, table)
    key = [column.name for column in table.primary_key]
    merged = {
        column.name: merge.get(column.name, _new)(column, insert.excluded[column.name])
        for column in table.c
        if column.name not in key and column.name in rows[0]
    }
    db.execute(insert.on_conflict_do_update(index_elements=key, set_=merged), rows)


def _new(old: Any, new: Any) -> Any:
    del old
    return new


def _insert(db: sa.Connection, table: sa.Table) -> Any:
    return {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[db.dialect.name](table)


def _as_it_may_be_opened(url: sa.URL) -> sa.URL:
    """Return the way to open a file: where nobody can write, SQLite must not look for writers."""
    path = Path(url.database or "")
    if not path.exists() or os.access(path.parent, os.W_OK):
        return url
    log = path.with_name(f"{path.name}-wal")
    still = not log.exists() or log.stat().st_size == 0  # else somebody else may be writing
    how = {"immutable": "1"} if still else {"mode": "ro"}
    return url.set(database=f"file:{quote(str(path))}", query={**how, "uri": "true"})


def _is_away(error: Exception) -> bool:
    """Tell a server that is away, restarting or cut off from one that says no."""
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    shutting_down = state is not None and state.startswith(("08", "57P", "53", "55P03", "25P03"))
    cut_off = state is None and isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)
    refused = "password" in str(error) or "does not exist" in str(error)
    return error.connection_invalidated or shutting_down or (cut_off and not refused)


def _first_line(error: Exception) -> str:
    return shown(str(error).strip().splitlines()[0])


def _connect(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # `_begin` begins, not the driver
    connection.execute(f"PRAGMA busy_timeout={LOCKED_MS}")


def _make_lasting(connection: Any, _: Any) -> None:
    """Readers beside one writer, and what is committed survives a loss of power."""
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin(db: sa.Connection) -> None:
    """Take the right to write at once: a reader that turns writer may find it gone."""
    writes = db.get_execution_options().get("rigorl_writes", False)
    db.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
