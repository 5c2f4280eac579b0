"""What Alembic runs: migrations through the connection that the caller has opened."""

from alembic import context

from rutile.jobs.tables import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
