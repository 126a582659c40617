"""Brings a backup back, all of it or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import sqlalchemy
from alembic import command
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Insert, Table, bindparam, insert
from sqlalchemy.exc import DBAPIError

from .. import jobs, migrations
from ..dialect import Dialect
from . import BackupError, key_of, tables
from .archive import Archive, Header

# How many rows go to the database at once.
_BATCH = 100


def restore(path: Path, settings: Any, dialect: Dialect, *, replace: bool) -> int:
    """Put the rows of a backup into the database, and return how many there were. Every byte is checked before.

    An empty database gets the schema of the backup first. With `replace`, the rows that are there are deleted.

    Raises:
        BackupError: the file or the database is not fit for it; no row was changed.
    """
    key, found = key_of(settings), Archive(path)
    found.check_sum()  # before anything in it is believed
    if found.header.service != settings.service_name:
        raise BackupError(f"{path} is a backup of {found.header.service}, and this is {settings.service_name}")
    found.check_rows(key)
    with jobs.exclusive(settings, dialect, settings.backup_timeout_seconds) as connection:
        if found.header.database != connection.dialect.name:
            raise BackupError(f"{path} is of another database: {found.header.database}")
        is_new = _bring_to_schema(connection, found.header)
        here = _matching(connection, found.header)
        connection.rollback()
        try:
            with connection.begin(), dialect.restoring(connection, here):
                if not (is_new or replace) and tables.hold_rows(connection, here):
                    raise BackupError("the database holds rows; say --replace (REPLACE=yes) to have them deleted")
                dialect.delete_rows(connection, here)
                return _fill(connection, here, found, key)
        except DBAPIError as error:
            if jobs.is_away(error, dialect):
                raise
            said = str(error.orig).partition("\n")[0]
            raise BackupError(f"the database refuses what is in the backup: {said}") from None


def _bring_to_schema(connection: Connection, header: Header) -> bool:
    """Give an empty database the schema of the backup. Return whether it was empty."""
    revision, is_empty = tables.revision_of(connection), not tables.are_there(connection)
    connection.rollback()
    if revision == header.revision:
        return False
    if revision or not is_empty:
        raise BackupError(
            f"the backup is of the schema {header.revision}, and the database of {revision or 'none that is known'};"
            f" bring it there with `migrate downgrade {header.revision}`, or take an empty one"
        )
    migrations.require_folder()
    config = migrations.config_for(connection)
    wanted = header.revision.split(",")
    try:
        ScriptDirectory.from_config(config).get_revisions(wanted)
    except CommandError:
        raise BackupError(
            f"the backup is of the schema {header.revision}, which this release does not know;"
            f" restore it with release {header.release}"
        ) from None
    for one in wanted:
        command.upgrade(config, one)
    connection.rollback()
    return True


def _matching(connection: Connection, header: Header) -> list[Table]:
    """Return the tables of the backup as they are in the database.

    Raises:
        BackupError: one of them is not there, or not the same.
    """
    there = {table.name: table for table in tables.read(connection)}
    for name, wanted in header.tables.items():
        if name not in there:
            raise BackupError(f"the backup has a table {name}, which no migration makes: make it first")
        if set(wanted) != {column.name for column in tables.columns(there[name])}:
            raise BackupError(f"the table {name} of the backup has other columns than that of the database")
    return [table for name, table in there.items() if name in header.tables]


def _fill(connection: Connection, here: Sequence[Table], found: Archive, key: bytes | None) -> int:
    count = 0
    named = {table.name: table for table in here}
    for name, rows in groupby(found.rows(key), itemgetter(0)):
        statement = _insert(named[name], found.header.tables[name])
        values = ({f"v{number}": value for number, value in enumerate(row)} for _, row in rows)
        while batch := list(islice(values, _BATCH)):
            connection.execute(statement, batch)
            count += len(batch)
    return count


def _insert(table: Table, names: Sequence[str]) -> Insert:
    """Return an INSERT of values as they are: without a type, SQLAlchemy makes nothing of them."""
    plain = sqlalchemy.table(table.name, *map(sqlalchemy.column, names))
    # To DuckDB a row cannot point to one that comes in the same statement.
    rows_at_once = 1 if tables.keys_to_itself(table) else _BATCH
    values: dict[str, Any] = {name: bindparam(f"v{number}") for number, name in enumerate(names)}
    return insert(plain).values(values).execution_options(insertmanyvalues_page_size=rows_at_once)
