"""Runs migrations on the connection, and within the transaction, that `stores.schema` hands over."""

from alembic import context

from fairlead.stores.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a table by rebuilding it
)
with context.begin_transaction():
    context.run_migrations()
