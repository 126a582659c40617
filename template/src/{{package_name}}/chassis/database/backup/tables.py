"""The tables as they are in the database, not as the models have them: a backup may be of another release."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, ForeignKeyConstraint, MetaData, Table, delete, inspect, select, text
from sqlalchemy.exc import SAWarning

# Alembic's own; what is in it stands in the header of a backup.
_REVISIONS = "alembic_version"


def revision_of(connection: Connection) -> str:
    """Return the schema's revision; nothing where no migration was run."""
    if not inspect(connection).has_table(_REVISIONS):
        return ""
    return ",".join(sorted(connection.scalars(text(f"SELECT version_num FROM {_REVISIONS}"))))


def are_there(connection: Connection) -> bool:
    return bool(set(inspect(connection).get_table_names()) - {_REVISIONS})


def read(connection: Connection) -> list[Table]:
    """Return every table, each after those that its foreign keys point to, as far as there is such an order."""
    found = MetaData()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # of types that are not known here, and of circles
        found.reflect(connection, resolve_fks=False, only=lambda name, _: name != _REVISIONS)
        return list(found.sorted_tables)


def columns(table: Table) -> Sequence[Column[Any]]:
    """Return the columns that are stored; the others are worked out from these."""
    return [column for column in table.columns if column.computed is None]


def keys_to_itself(table: Table) -> list[ForeignKeyConstraint]:
    return [key for key in table.foreign_key_constraints if key.referred_table is table]


def hold_rows(connection: Connection, tables: Sequence[Table]) -> bool:
    return any(connection.execute(select(1).select_from(table).limit(1)).first() for table in tables)


def delete_rows(connection: Connection, tables: Sequence[Table]) -> None:
    """Delete every row of tables of which each stands after those that it points to."""
    for table in reversed(tables):
        connection.execute(delete(table))
