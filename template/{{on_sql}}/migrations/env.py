"""The entry point of Alembic; `python -m <package> migrate` passes the attributes."""

from alembic import context

# Tables that `migrate revision` and `migrate check` ignore, because an extension or another application owns them.
IGNORED_TABLES = {"spatial_ref_sys"}

attributes = context.config.attributes


def include_name(name, kind, _parents):
    return kind != "table" or name not in IGNORED_TABLES


context.configure(
    connection=attributes["connection"],
    target_metadata=attributes["metadata"],
    render_item=attributes["render_item"],
    include_name=include_name,
    compare_type=True,
    render_as_batch=True,  # SQLite cannot alter a column in place
)
with context.begin_transaction():
    context.run_migrations()
