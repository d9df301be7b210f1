"""Older journals are brought up to date when they are opened; newer ones are left alone."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from rigorl.errors import JournalError
from rigorl.outside.journal.database import Database
from rigorl.outside.journal.tables import VERSION_TABLE, meta

MIGRATIONS = Path(__file__).with_name("migrations")
VERSIONS = ("1", "2", "3")
"""All that can be read. The first one kept no version table; the last is that of `tables`."""
FIRST, HEAD = VERSIONS[0], VERSIONS[-1]
ONE_AT_A_TIME = sa.text("SELECT pg_advisory_xact_lock(7160101)")
version_table = sa.table(VERSION_TABLE, sa.column("version_num", sa.String))


def bring_up(database: Database) -> None:
    """Make the tables of *database* those of this version, in one transaction."""
    version = database.read(version_of)
    if version is not None and version not in VERSIONS:
        raise JournalError(
            f"a journal must be of a version this rigorl knows, but {database.name} is of version "
            f"{version} and this rigorl knows up to {HEAD}; use the rigorl that wrote it or a "
            "newer one, or choose another journal with --journal or --home"
        )
    if version != HEAD:
        database.write(lambda db: _bring_up(db, locked=database.is_file))


def version_of(db: sa.Connection) -> str | None:
    """Return the version of the journal behind *db*; None if there is no journal yet."""
    there = sa.inspect(db).get_table_names()
    if VERSION_TABLE in there:
        return db.scalar(sa.select(version_table.c.version_num))
    return FIRST if "rigorl_reports" in there else None


def _bring_up(db: sa.Connection, *, locked: bool) -> None:
    if not locked:
        db.execute(ONE_AT_A_TIME)
    config = Config(attributes={"connection": db})
    config.set_main_option("script_location", str(MIGRATIONS))
    version = version_of(db)  # somebody else may have been faster
    if version is None:
        meta.create_all(db)
        command.stamp(config, HEAD)
    elif version != HEAD:
        if version == FIRST:
            command.stamp(config, FIRST)
        command.upgrade(config, HEAD)
