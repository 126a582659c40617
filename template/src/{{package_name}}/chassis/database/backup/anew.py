"""What DuckDB needs for rows to come back: tables made anew, and keys that are counted on from there."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Column, Connection, Inspector, Table, event, func, select
from sqlalchemy.schema import DropTable, SetColumnComment, SetTableComment

from . import BackupError
from .tables import keys_to_itself

_HERE = "WHERE database_name = current_database() AND schema_name = current_schema()"
# What is in quotes, or a comma after which nothing comes.
_EMPTY_PLACE = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*")|, (?=, |\))""")
# The default of a column whose keys are counted by a sequence.
_COUNTED = re.compile(r"nextval\('([^']+)'\)")


@event.listens_for(Table, "column_reflect")
def _tell_computed(inspector: Inspector, table: Table, column: Any) -> None:
    """Mark a column that is worked out from others: the dialect takes its expression for a default."""
    connection = inspector.bind
    if connection.dialect.name != "duckdb" or not isinstance(connection, Connection) or column["default"] is None:
        return
    described = connection.exec_driver_sql(f"DESCRIBE {connection.dialect.identifier_preparer.format_table(table)}")
    if any(row.column_name == column["name"] and row.default is None for row in described):
        column["computed"] = {"sqltext": column["default"]}
        column["default"] = None


def delete_rows(connection: Connection, tables: Sequence[Table]) -> None:
    """Make the tables anew: within one transaction DuckDB takes no row away to which another one pointed.

    https://duckdb.org/docs/stable/sql/indexes#constraint-checking-in-foreign-keys

    Raises:
        BackupError: a table did not come out as it was.
    """
    statements = _definitions(connection)
    before = _constraints(connection)
    for table in reversed(tables):
        connection.execute(DropTable(table))
    for table in tables:
        for statement in statements[table.name]:
            connection.exec_driver_sql(_completed(statement, table, connection.dialect.identifier_preparer))
        if table.comment:
            connection.execute(SetTableComment(table))
        for column in (column for column in table.columns if column.comment):
            connection.execute(SetColumnComment(column))
    if _constraints(connection) != before:
        raise BackupError("this DuckDB does not say how its tables were made; take an empty database")


def _definitions(connection: Connection) -> dict[str, list[str]]:
    """Return the statements that make each table and its indexes."""
    found: dict[str, list[str]] = defaultdict(list)
    for kind in ("tables", "indexes"):
        query = f"SELECT table_name, sql FROM duckdb_{kind}() {_HERE} AND sql IS NOT NULL"
        for name, statement in connection.exec_driver_sql(query):
            found[name].append(statement)
    return found


def _constraints(connection: Connection) -> list[str]:
    """Return what tables promise; a foreign key of a table to itself has no text."""
    what = "constraint_type, constraint_text, constraint_column_names, referenced_table, referenced_column_names"
    found = connection.exec_driver_sql(f"SELECT table_name, {what} FROM duckdb_constraints() {_HERE}")
    return sorted(str(row) for row in found)


def _completed(statement: str, table: Table, quote: Any) -> str:
    """Put the foreign keys of a table to itself into its definition: DuckDB leaves an empty place for each."""
    texts = iter(
        [
            f", FOREIGN KEY ({', '.join(quote.format_column(column) for column in key.columns)}) REFERENCES"
            f" {quote.format_table(table)} ({', '.join(quote.format_column(one.column) for one in key.elements)})"
            for key in keys_to_itself(table)
        ]
    )
    return _EMPTY_PLACE.sub(lambda found: found[1] or next(texts, ""), statement)


@contextmanager
def restoring(connection: Connection, tables: Sequence[Table]) -> Iterator[None]:
    """Rows come in an order that foreign keys allow. Sequences go on after the highest key."""
    yield
    counted: dict[str, list[Column[Any]]] = defaultdict(list)
    for column in (column for table in tables for column in table.columns):
        default = getattr(column.server_default, "arg", "")
        if name := _COUNTED.fullmatch(str(default)):
            counted[name[1]].append(column)
    for sequence, columns in counted.items():
        keys = [connection.scalar(select(func.max(column))) for column in columns]
        if any(key is not None for key in keys):
            _count_on(connection, sequence, columns, 1 + max(key for key in keys if key is not None))


def _count_on(connection: Connection, sequence: str, columns: Sequence[Column[Any]], start: int) -> None:
    """Make a sequence anew, which can only be done while no column needs it."""
    quote = connection.dialect.identifier_preparer
    names = [(quote.format_table(column.table), quote.format_column(column)) for column in columns]
    query = f"SELECT sequence_name, sql FROM duckdb_sequences() {_HERE}"
    made = {name: sql.rpartition(" INCREMENT BY ")[2] for name, sql in connection.exec_driver_sql(query)}
    options = re.sub(r" START -?\d+", f" START {start}", made[sequence.strip('"')])
    for table, column in names:
        connection.exec_driver_sql(f"ALTER TABLE {table} ALTER {column} DROP DEFAULT")
    connection.exec_driver_sql(f"CREATE OR REPLACE SEQUENCE {sequence} INCREMENT BY {options}")
    for table, column in names:
        connection.exec_driver_sql(f"ALTER TABLE {table} ALTER {column} SET DEFAULT nextval('{sequence}')")
