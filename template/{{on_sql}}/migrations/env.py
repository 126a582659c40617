"""Alembic's entry; what it needs comes from `python -m <package> migrate`."""

from alembic import context

given = context.config.attributes

context.configure(
    connection=given["connection"],
    target_metadata=given["metadata"],
    render_item=given["render_item"],
    compare_type=True,
    render_as_batch=True,  # SQLite cannot alter a column in place
)
with context.begin_transaction():
    context.run_migrations()
