"""Alembic runs this to migrate a journal, on the connection that `schema` hands over."""

from alembic import context

from rigorl.outside.journal.tables import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
