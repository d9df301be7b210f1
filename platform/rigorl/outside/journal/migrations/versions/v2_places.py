"""Places, attempts, leases and code; the time of a report beside the report itself."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Add what is new, and fill it from what is there. Rungs are left to be read."""
    _add_columns()
    _add_tables()
    op.execute(
        "UPDATE rigorl_reports SET at = coalesce("
        "(SELECT b.at FROM rigorl_batches b WHERE b.id = rigorl_reports.batch), 0)"
    )
    op.execute(
        'INSERT INTO rigorl_places (trial, stage, step, "update", finished, at) '
        'SELECT trial, stage, step, "update", finished, at FROM rigorl_reports WHERE seq IN '
        "(SELECT max(seq) FROM rigorl_reports GROUP BY trial)"
    )
    op.execute("UPDATE rigorl_reports SET rung = -1")
    op.execute("UPDATE rigorl_studies SET state = 'stopped'")
    with op.batch_alter_table("rigorl_reports") as table:
        table.drop_column("batch")
    op.drop_table("rigorl_batches")
    op.drop_table("rigorl_beats")


def _add_columns() -> None:
    def text(name: str, size: int) -> sa.Column[str]:
        return sa.Column(name, sa.String(size), nullable=False, server_default="")

    op.add_column("rigorl_studies", text("state", 20))
    op.add_column("rigorl_trials", text("code", 40))
    op.add_column("rigorl_trials", text("accepted", 40))
    op.add_column("rigorl_candidates", text("study", 200))
    op.add_column("rigorl_reports", sa.Column("rung", sa.Integer))
    op.add_column("rigorl_reports", sa.Column("value", sa.Float(53)))
    op.add_column(
        "rigorl_reports", sa.Column("at", sa.BigInteger, nullable=False, server_default="0")
    )


def _add_tables() -> None:
    op.create_table(
        "rigorl_places",
        sa.Column("trial", sa.String(16), primary_key=True),
        sa.Column("stage", sa.Integer, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("update", sa.BigInteger, nullable=False),
        sa.Column("finished", sa.Boolean, nullable=False),
        sa.Column("value", sa.Float(53)),
        sa.Column("seconds", sa.Text),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "rigorl_attempts",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("trial", sa.String(16), nullable=False, index=True),
        sa.Column("stage", sa.Integer, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("host", sa.String(200), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "rigorl_leases",
        sa.Column("study", sa.String(200), primary_key=True),
        sa.Column("holder", sa.Text),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("beats", sa.BigInteger, nullable=False),
    )
