"""MySQL (https://dev.mysql.com/doc/) and MariaDB (https://mariadb.com/kb/), by PyMySQL and its asynchronous twin."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pymysql  # type: ignore[import-untyped]
from pymysql.constants import CR  # type: ignore[import-untyped]
from sqlalchemy import FLOAT, URL, Column, ColumnElement, Connection, DateTime, Engine, Table, literal_column, text
from sqlalchemy.ext.compiler import compiles

from . import pool
from .backup import tables as stored_tables
from .dialect import Connector, MigrationError, wait_for_lock

ASYNC_DRIVER = "mysql+aiomysql"
SYNC_DRIVER = "mysql+pymysql"
SNAPSHOT = (
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
)

# https://mariadb.com/kb/en/mariadb-error-code-reference/, and the client's own from 2000 on.
_DUPLICATE = (1062, 1586)
_TRANSIENT = frozenset({
    1040, 1203, 1226,  # too many connections
    1053, 1077, 1129, 1158, 1159, 1160, 1161, 1317, 1927, 3169,  # shutting down, connection lost or killed
    1205, 1213,  # lock wait, deadlock
    1290, 1836,  # read-only, as a standby is
    1969, 3024,  # the statement took too long: MariaDB, MySQL
    2002, 2003, 2006, 2013, 2014, 2055, 4031,  # not reached, connection lost
})  # fmt: skip


class Settings(pool.Settings):
    """MySQL"""

    url_schemes: ClassVar = ("mysql", "mariadb")
    url_example: ClassVar = "mysql://user:password@localhost:3306/name"


@compiles(DateTime, "mysql", "mariadb")
def _with_microseconds(_type: DateTime, _compiler: Any, **_options: Any) -> str:
    """Keep fractions of a second, which MySQL drops unless it is asked."""
    return "DATETIME(6)"


def engine_options(settings: Any) -> dict[str, Any]:
    return pool.pool_options(settings) | {
        "connect_args": {
            "charset": "utf8mb4",
            "connect_timeout": settings.database_connect_timeout_seconds,
            "init_command": _session(settings.database_statement_timeout_seconds),
        }
    }


def _session(limit_seconds: float) -> str:
    """Return the one statement that sets a connection up. Comments hide from either server what the other one says."""
    return (
        f"SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = {math.ceil(limit_seconds)}"
        f" /*!50708 , max_execution_time = {round(limit_seconds * 1000)} */"
        f" /*M!100000 , max_statement_time = {limit_seconds:g} */"
    )


def connector(settings: Any, is_async: bool) -> Connector:
    """Bound every read: for a server that is frozen the drivers would wait for ever, one of them even to be greeted."""
    connect_seconds, seconds = settings.database_connect_timeout_seconds, pool.patience_seconds(settings)

    def connect(*arguments: Any, **options: Any) -> Any:
        connection = pymysql.connect(*arguments, **options, read_timeout=connect_seconds, write_timeout=seconds)
        _set_patience(connection, seconds)
        pool.keep_alive(connection._sock, settings)
        return connection

    async def connect_async(*arguments: Any, **options: Any) -> Any:
        open_connection = import_module("aiomysql").connect  # only asynchronous services have it
        try:
            async with asyncio.timeout(connect_seconds):
                connection = await open_connection(*arguments, **options)
        except TimeoutError:
            raise pymysql.OperationalError(CR.CR_SERVER_LOST, f"not connected within {connect_seconds} s") from None
        pool.keep_alive(connection._writer.transport.get_extra_info("socket"), settings)
        connection._reader = _PatientReader(connection._reader, seconds)
        return connection

    return Connector(connect_async if is_async else connect, _set_patience, connect_seconds, seconds)


class _PatientReader:
    """Reads from the server, and waits for so long and no longer. The driver takes a TimeoutError for a lost server."""

    def __init__(self, reader: asyncio.StreamReader, patience_seconds: float) -> None:
        self._reader = reader
        self.patience_seconds = patience_seconds

    async def readexactly(self, count: int) -> bytes:
        async with asyncio.timeout(self.patience_seconds):
            return await self._reader.readexactly(count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def _set_patience(connection: Any, seconds: float) -> None:
    if isinstance(connection, pymysql.Connection):
        connection._read_timeout = seconds
    else:
        connection._reader.patience_seconds = seconds


prepare = pool.prepare
before_connect = pool.before_connect
on_connect = pool.on_connect
ping = pool.ping
ask_service = pool.ask_service


def scratch(url: URL, folder: Path) -> AbstractContextManager[URL]:
    """Create a database on the same server, which writes and orders letters as this one does."""
    return pool.scratch(url, folder, _letters)


def _letters(connection: Connection) -> str:
    names = connection.execute(text("SELECT @@character_set_database, @@collation_database")).one()
    return " CHARACTER SET {} COLLATE {}".format(*names)


@contextmanager
def migration_lock(engine: Engine, timeout_seconds: float) -> Iterator[None]:
    """Take a named lock on a connection of its own; it goes with the connection, so none is ever left behind."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.scalar(text("SELECT @@character_set_database")) != "utf8mb4":
            raise MigrationError("the database is not in utf8mb4; do ALTER DATABASE name CHARACTER SET utf8mb4")
        # Such names belong to the whole server, and are short.
        name = "CONCAT('migrations-', MD5(DATABASE()))"
        wait_for_lock(lambda: bool(connection.scalar(text(f"SELECT GET_LOCK({name}, 0)"))), timeout_seconds)
        try:
            yield
        finally:
            connection.execute(text(f"SELECT RELEASE_LOCK({name})"))


def is_transient(error: Exception) -> bool:
    return _code(error) in _TRANSIENT


def is_conflict(error: Exception) -> bool:
    return _code(error) in _DUPLICATE


def _code(error: Exception) -> int | None:
    arguments = getattr(getattr(error, "orig", None), "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def stored(column: Column[Any]) -> ColumnElement[Any]:
    """Have a FLOAT written with all its digits, of which it shows six."""
    return column + literal_column("0e0") if isinstance(column.type, FLOAT) else column


delete_rows = stored_tables.delete_rows


@contextmanager
def restoring(connection: Connection, _tables: Sequence[Table]) -> Iterator[None]:
    """Leave foreign keys unchecked, for rows that were checked before, and take a key of 0 for what it is."""
    connection.exec_driver_sql(
        "SET SESSION foreign_key_checks = 0, sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO')"
    )
    yield
