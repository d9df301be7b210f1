"""What is kept, as tables. Whoever changes this adds a step to `migrations/versions`.

They lie beside Optuna's and MLflow's own at the same URL, so all begin with `rigorl_`.
Reports and failures are bodies in MessagePack, which keeps NaN, infinity and the difference
between 1 and 1.0; the columns beside a body are what is asked for without opening it.
Moments (`at`) are in milliseconds since 1970 and are never part of a result.
"""

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

VERSION_TABLE = "rigorl_alembic"
meta = sa.MetaData()
studies = Table(
    "rigorl_studies",
    meta,
    Column("name", String(200), primary_key=True),
    Column("spec", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("state", String(20), nullable=False, server_default=""),
)
"""`state`: running, done, failed or stopped; empty if a version wrote it that did not know."""
trials = Table(
    "rigorl_trials",
    meta,
    Column("id", String(16), primary_key=True),
    Column("study", String(200), nullable=False, index=True),
    Column("body", Text, nullable=False),
    Column("code", String(40), nullable=False, server_default=""),
    Column("accepted", String(40), nullable=False, server_default=""),
)
"""`code` made it; a person said with `--accept-code` that it counts under `accepted` too."""
reports = Table(
    "rigorl_reports",
    meta,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("trial", String(16), nullable=False),
    Column("stage", Integer, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("update", BigInteger, nullable=False),
    Column("rung", Integer),
    Column("value", Float(53)),
    Column("finished", Boolean, nullable=False),
    Column("at", BigInteger, nullable=False, server_default="0"),
    Column("body", LargeBinary, nullable=False),
    sa.UniqueConstraint("trial", "stage", "step", "update"),
)
"""`value` is `search.value` of a rung: an index, so that a search need not open the bodies."""
UNREAD = -1
"""A rung that the first version did not note; it stands in the body."""
failures = Table(
    "rigorl_failures",
    meta,
    Column("trial", String(16), primary_key=True),
    Column("lasting", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
places = Table(
    "rigorl_places",
    meta,
    Column("trial", String(16), primary_key=True),
    Column("stage", Integer, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("update", BigInteger, nullable=False),
    Column("finished", Boolean, nullable=False),
    Column("value", Float(53)),
    Column("seconds", Text),
    Column("at", BigInteger, nullable=False),
)
"""How far each trial is, what it was worth at its last rung, and what its time went to."""
attempts = Table(
    "rigorl_attempts",
    meta,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("trial", String(16), nullable=False, index=True),
    Column("stage", Integer, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("host", String(200), nullable=False),
    Column("note", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)
troubles = Table(
    "rigorl_troubles",
    meta,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("trial", String(16), nullable=False, index=True),
    Column("cause", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)
"""Attempts that ended badly and were made again."""
waits = Table(
    "rigorl_waits",
    meta,
    Column("trial", String(16), primary_key=True),
    Column("cause", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)
"""Why trials wait that have not begun; a start removes its row."""
lines = Table(
    "rigorl_lines",
    meta,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study", String(200), nullable=False, index=True),
    Column("text", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)
"""What drivers said while they drove: there when the machine they ran on is gone."""
stops = Table(
    "rigorl_stops",
    meta,
    Column("study", String(200), primary_key=True),
    Column("at", BigInteger, nullable=False),
)
"""Studies whose driver is asked to stop; it looks here with each sign of life."""
candidates = Table(
    "rigorl_candidates",
    meta,
    Column("search", String(16), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("config", Text, nullable=False),
    Column("study", String(200), nullable=False, server_default=""),
)
leases = Table(
    "rigorl_leases",
    meta,
    Column("study", String(200), primary_key=True),
    Column("holder", Text),
    Column("fence", BigInteger, nullable=False),
    Column("beats", BigInteger, nullable=False),
)
"""Who drives a study. `fence` grows with each driver, `beats` with each sign of life."""
mirrored = Table(
    "rigorl_mirrored",
    meta,
    Column("target", String(400), primary_key=True),
    Column("what", String(200), primary_key=True),
    Column("run", String(64), nullable=False),
    Column("seq", Integer, nullable=False),
)
