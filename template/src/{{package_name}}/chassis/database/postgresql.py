"""PostgreSQL (https://www.postgresql.org/docs/), by psycopg 3, which is one driver for both interfaces."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import psycopg
from psycopg import waiting
from psycopg.pq import TransactionStatus
from sqlalchemy import Column, ColumnElement, Engine, Integer, Table, Text, cast, func, select, text
from sqlalchemy import Connection as SqlConnection

from . import pool
from .backup import tables as stored_tables
from .dialect import Connector, wait_for_lock

# It warns of errors that it leaves to the one that comes with them, which is told.
logging.getLogger("psycopg").setLevel(logging.ERROR)

ASYNC_DRIVER = "postgresql+psycopg_async"
SYNC_DRIVER = "postgresql+psycopg"
# The second line has values written as every server reads them.
SNAPSHOT = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL extra_float_digits = 3",
)

# Any number will do, as long as every release of this service takes the same one.
_MIGRATION_LOCK = 5_391_417
_UNIQUE_VIOLATION, _EXCLUSION_VIOLATION = "23505", "23P01"
# https://www.postgresql.org/docs/current/errcodes-appendix.html: whole classes first, then single codes.
_TRANSIENT_CLASSES = ("08", "53", "57")  # connection exception, insufficient resources, operator intervention
_TRANSIENT = ("40001", "40P01", "55P03", "25006")  # serialization, deadlock, lock not available, read-only (standby)

# How often it is looked at the clock while nothing comes; psycopg does the same, for Ctrl-C.
_INTERVAL_SECONDS = 0.1

T = TypeVar("T")


class Settings(pool.Settings):
    """PostgreSQL"""

    url_schemes: ClassVar = ("postgresql", "postgres")
    url_example: ClassVar = "postgresql://user:password@localhost:5432/name"


def engine_options(settings: Any) -> dict[str, Any]:
    """Time-outs of the server's go with the connection's opening, which costs no round trip."""
    limit_ms = round(settings.database_statement_timeout_seconds * 1000)
    return pool.pool_options(settings) | {
        "connect_args": {
            "connect_timeout": settings.database_connect_timeout_seconds,
            # A transaction that is left open holds its locks; its request is long gone by then.
            "options": f"-c statement_timeout={limit_ms} -c idle_in_transaction_session_timeout={limit_ms * 6}",
            "keepalives_idle": settings.database_keepalive_idle_seconds,
            "keepalives_interval": settings.database_keepalive_interval_seconds,
            "keepalives_count": settings.database_keepalive_count,
            # What was sent and never acknowledged: the other machine is gone, or the network to it.
            "tcp_user_timeout": round(pool.patience_seconds(settings) * 1000),
        }
    }


class _Patient:
    """Waits for an answer for so long, and no longer. psycopg itself waits for ever for a server that is frozen."""

    patience_seconds = float("inf")

    def bounded(self, steps: Generator[Any, Any, T], timeout: float | None) -> Generator[Any, Any, T]:
        """Pass on the steps of one exchange; they come by even while nothing happens."""
        seconds = min(self.patience_seconds, timeout or self.patience_seconds)
        deadline = time.monotonic() + seconds
        try:
            state = next(steps)
            while True:
                ready = yield state
                if time.monotonic() > deadline:
                    raise psycopg.OperationalError(f"no answer within {seconds:g} s")
                state = steps.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result

    @staticmethod
    def give_up(connection: psycopg.pq.abc.PGconn, error: BaseException) -> None:
        """Close a connection that waits for an answer which nobody will read; the server ends the statement in time."""
        # What the server says is an answer, though it may have many statements of one executemany() before it.
        has_answered = isinstance(error, psycopg.Error) and error.sqlstate is not None
        if not has_answered and connection.transaction_status == TransactionStatus.ACTIVE:
            connection.finish()


class Connection(_Patient, psycopg.Connection[Any]):
    """A connection of a synchronous service."""

    def wait(self, gen: Any, *_interval: Any, **options: Any) -> Any:
        try:
            return waiting.wait(self.bounded(gen, options.get("timeout")), self.pgconn.socket, _INTERVAL_SECONDS)
        except BaseException as error:
            self.give_up(self.pgconn, error)
            raise


class AsyncConnection(_Patient, psycopg.AsyncConnection[Any]):
    """A connection of an asynchronous service. When its task is cancelled it does not wait for the server's consent."""

    async def wait(self, gen: Any, *_interval: Any, **options: Any) -> Any:
        try:
            return await waiting.wait_async(
                self.bounded(gen, options.get("timeout")), self.pgconn.socket, _INTERVAL_SECONDS
            )
        except BaseException as error:
            self.give_up(self.pgconn, error)
            raise


def connector(settings: Any, is_async: bool) -> Connector:
    seconds = pool.patience_seconds(settings)

    def connect(*arguments: Any, **options: Any) -> Connection:
        connection = Connection.connect(*arguments, **options)
        connection.patience_seconds = seconds
        return connection

    async def connect_async(*arguments: Any, **options: Any) -> AsyncConnection:
        connection = await AsyncConnection.connect(*arguments, **options)
        connection.patience_seconds = seconds
        return connection

    opened_by = connect_async if is_async else connect
    return Connector(opened_by, _set_patience, settings.database_connect_timeout_seconds, seconds)


def _set_patience(connection: Any, seconds: float) -> None:
    connection.patience_seconds = seconds


prepare = pool.prepare
before_connect = pool.before_connect
on_connect = pool.on_connect
ping = pool.ping
ask_service = pool.ask_service
scratch = pool.scratch


@contextmanager
def migration_lock(engine: Engine, timeout_seconds: float) -> Iterator[None]:
    """Take an advisory lock on a connection of its own; it goes with the connection, so none is ever left behind."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        take = text("SELECT pg_try_advisory_lock(:key)").bindparams(key=_MIGRATION_LOCK)
        wait_for_lock(lambda: bool(connection.scalar(take)), timeout_seconds)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)").bindparams(key=_MIGRATION_LOCK))


def is_transient(error: Exception) -> bool:
    state = _sqlstate(error)
    if state is None:  # no answer of the server's: it was not reached
        return isinstance(getattr(error, "orig", None), psycopg.OperationalError)
    return state.startswith(_TRANSIENT_CLASSES) or state in _TRANSIENT


def is_conflict(error: Exception) -> bool:
    return _sqlstate(error) in (_UNIQUE_VIOLATION, _EXCLUSION_VIOLATION)


def _sqlstate(error: Exception) -> str | None:
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def stored(column: Column[Any]) -> ColumnElement[Any]:
    """Take a value as the server writes it, of whatever type it is; it reads it back by itself."""
    return cast(column, Text)


delete_rows = stored_tables.delete_rows


@contextmanager
def restoring(connection: SqlConnection, tables: Sequence[Table]) -> Iterator[None]:
    """Have foreign keys looked at when all rows are there, and sequences go on after the highest key."""
    changes = list(_loosened(tables, connection.dialect.identifier_preparer))
    connection.exec_driver_sql("SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'")
    for table, loose, _ in changes:
        connection.exec_driver_sql(f"ALTER TABLE {table} ALTER {loose}")
    connection.exec_driver_sql("SET CONSTRAINTS ALL DEFERRED")
    yield
    connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
    for table, _, strict in changes:
        connection.exec_driver_sql(f"ALTER TABLE {table} ALTER {strict}")
    for column in (column for table in tables for column in table.columns):
        if isinstance(column.type, Integer) and column.server_default is not None:
            _count_on(connection, column)


def _loosened(tables: Sequence[Table], quote: Any) -> Iterator[tuple[str, str, str]]:
    """Yield the table, the word that lets rows come in any order or keep their keys, and the word that ends it."""
    for table in tables:
        for key in table.foreign_key_constraints:
            if not key.deferrable:
                name = f"CONSTRAINT {quote.format_constraint(key)}"
                yield quote.format_table(table), f"{name} DEFERRABLE", f"{name} NOT DEFERRABLE"
        for column in table.columns:
            if column.identity is not None and column.identity.always:
                name = f"COLUMN {quote.format_column(column)} SET GENERATED"
                yield quote.format_table(table), f"{name} BY DEFAULT", f"{name} ALWAYS"


def _count_on(connection: SqlConnection, column: Column[Any]) -> None:
    """Set the sequence of a column, if it has one, to the column's highest value."""
    table = '"' + column.table.name.replace('"', '""') + '"'
    sequence = func.pg_get_serial_sequence(table, column.name)
    highest = func.max(column)
    connection.execute(select(func.setval(sequence, func.coalesce(highest, 1), highest.is_not(None))))
