"""The first version, as it was before versions were counted. Never run: only stamped."""

revision = "1"
down_revision = None


def upgrade() -> None:
    """Nothing: whoever finds tables without a version finds these."""
