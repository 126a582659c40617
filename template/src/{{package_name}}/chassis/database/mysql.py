"""MySQL (https://dev.mysql.com/doc/) and MariaDB (https://mariadb.com/kb/), with PyMySQL or aiomysql.

Neither driver has an option for TCP keepalive or for a read timeout that changes. This file therefore uses private
names: `_sock` and `_read_timeout` of PyMySQL, `_reader` and `_writer` of aiomysql. `pyproject.toml` has an upper bound
for both drivers, and `test_mysql.py` fails if one of the names disappears.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pymysql  # type: ignore[import-untyped]
from pymysql.constants import CR  # type: ignore[import-untyped]
from sqlalchemy import URL, Connection, DateTime, Engine, text
from sqlalchemy.ext.compiler import compiles

from . import pool
from .backend import MigrationError, ReadOnlyError, wait_for_lock
from .circuit import Connector, guarded_connect

ASYNC_DRIVER = "mysql+aiomysql"
SYNC_DRIVER = "mysql+pymysql"

# https://mariadb.com/kb/en/mariadb-error-code-reference/; codes from 2000 on come from the client.
_DUPLICATE = (1062, 1586)
_TRANSIENT = frozenset({
    1040, 1203, 1226,  # too many connections
    1053, 1077, 1129, 1158, 1159, 1160, 1161, 1317, 1927, 3169,  # shutting down, connection lost or killed
    1205, 1213,  # lock wait, deadlock
    1290, 1836,  # read-only, as a standby is
    1021, 1114,  # the disk is full
    1969, 3024,  # the statement took too long: MariaDB, MySQL
    2002, 2003, 2006, 2013, 2014, 2055, 4031,  # unreachable, connection lost
})  # fmt: skip


class Settings(pool.Settings):
    """MySQL"""

    url_schemes: ClassVar = ("mysql", "mariadb")
    url_example: ClassVar = "mysql://user:password@localhost:3306/name"
    url_parameters: ClassVar = frozenset({
        *inspect.signature(pymysql.connect).parameters,
        "ssl_capath", "ssl_cipher", "ssl_check_hostname",  # SQLAlchemy passes them to the driver
    })  # fmt: skip


@compiles(DateTime, "mysql", "mariadb")
def _with_microseconds(_type: DateTime, _compiler: Any, **_options: Any) -> str:
    """Store microseconds, which MySQL drops by default."""
    return "DATETIME(6)"


def engine_options(settings: Settings) -> dict[str, Any]:
    return pool.pool_options(settings) | {
        "connect_args": {
            "charset": "utf8mb4",
            "connect_timeout": settings.database_connect_timeout_seconds,
            "init_command": _session(settings.database_statement_timeout_seconds),
        }
    }


def _session(limit_seconds: float) -> str:
    """Return the statement that configures a connection. Each server ignores comments that are meant for the other."""
    return (
        f"SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = {math.ceil(limit_seconds)}"
        f" /*!50708 , max_execution_time = {round(limit_seconds * 1000)} */"
        f" /*M!100000 , max_statement_time = {limit_seconds:g} */"
    )


def connector(engine: Engine, settings: Settings) -> Callable[..., Any]:
    """Connect behind a circuit breaker, and limit every read.

    The drivers wait without a limit for a server that hangs. aiomysql even waits without a limit for its greeting.
    """
    connect_seconds, seconds = settings.database_connect_timeout_seconds, pool.read_timeout_seconds(settings)

    def connect(*arguments: Any, **options: Any) -> Any:
        connection = pymysql.connect(*arguments, **options, read_timeout=connect_seconds, write_timeout=seconds)
        _set_read_timeout(connection, seconds)
        pool.keep_alive(connection._sock, settings)
        return connection

    server = Connector(
        connect=partial(_connect_async, settings) if engine.dialect.is_async else connect,
        set_read_timeout=_set_read_timeout,
        connect_timeout_seconds=connect_seconds,
        read_timeout_seconds=seconds,
        pre_ping=settings.database_pool_pre_ping,
    )
    return guarded_connect(engine, server)


async def _connect_async(settings: Settings, *arguments: Any, **options: Any) -> Any:
    open_connection = import_module("aiomysql").connect  # only asynchronous services install it
    connect_seconds = settings.database_connect_timeout_seconds
    try:
        async with asyncio.timeout(connect_seconds):
            connection = await open_connection(*arguments, **options)
    except TimeoutError:
        raise pymysql.OperationalError(CR.CR_SERVER_LOST, f"not connected within {connect_seconds} s") from None
    pool.keep_alive(connection._writer.transport.get_extra_info("socket"), settings)
    connection._reader = _ReadTimeout(connection._reader, pool.read_timeout_seconds(settings))
    return connection


class _ReadTimeout:
    """A reader that limits each wait. aiomysql treats a TimeoutError as a lost connection."""

    def __init__(self, reader: asyncio.StreamReader, seconds: float) -> None:
        self._reader = reader
        self.read_timeout_seconds = seconds

    async def readexactly(self, count: int) -> bytes:
        async with asyncio.timeout(self.read_timeout_seconds):
            return await self._reader.readexactly(count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def _set_read_timeout(connection: Any, seconds: float) -> None:
    if isinstance(connection, pymysql.Connection):
        connection._read_timeout = seconds
    else:
        connection._reader.read_timeout_seconds = seconds


prepare = pool.prepare
before_connect = pool.before_connect
on_connect = pool.on_connect


def scratch(url: URL, folder: Path) -> AbstractContextManager[URL]:
    """Create a database on the same server, with the character set and collation of this one."""
    return pool.scratch(url, folder, _character_set)


def _character_set(connection: Connection) -> str:
    names = connection.execute(text("SELECT @@character_set_database, @@collation_database")).one()
    return " CHARACTER SET {} COLLATE {}".format(*names)


@contextmanager
def migration_lock(engine: Engine, timeout_seconds: float) -> Iterator[None]:
    """Take a named lock on a separate connection; the server releases it when that connection ends."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.scalar(text("SELECT @@character_set_database")) != "utf8mb4":
            raise MigrationError(
                "the character set of the database is not utf8mb4; run ALTER DATABASE name CHARACTER SET utf8mb4"
            )
        # Names of locks are global to the server, and limited to 64 characters.
        name = "CONCAT('migrations-', LEFT(SHA2(DATABASE(), 256), 32))"
        wait_for_lock(lambda: bool(connection.scalar(text(f"SELECT GET_LOCK({name}, 0)"))), timeout_seconds)
        try:
            yield
        finally:
            connection.execute(text(f"SELECT RELEASE_LOCK({name})"))


def ping(connection: Connection) -> None:
    """Raise an exception if the server does not accept writes, as a replica does."""
    if connection.scalar(text("SELECT @@global.read_only")):
        raise ReadOnlyError


def is_transient(error: Exception) -> bool:
    return _code(error) in _TRANSIENT


def is_conflict(error: Exception) -> bool:
    return _code(error) in _DUPLICATE


def _code(error: Exception) -> int | None:
    arguments = getattr(getattr(error, "orig", None), "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None
