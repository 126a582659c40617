"""The entry point of Alembic; `python -m <package> migrate` passes the attributes."""

from alembic import context

attributes = context.config.attributes

context.configure(
    connection=attributes["connection"],
    target_metadata=attributes["metadata"],
    render_item=attributes["render_item"],
    compare_type=True,
    render_as_batch=True,  # SQLite cannot alter a column in place
)
with context.begin_transaction():
    context.run_migrations()
