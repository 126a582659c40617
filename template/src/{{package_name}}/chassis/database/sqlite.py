"""SQLite (https://sqlite.org): a file beside the service, one writer at a time, nothing to install."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import Field
from sqlalchemy import URL, BigInteger, Column, ColumnElement, Connection, Table, make_url, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.compiler import compiles

from . import Settings as DatabaseSettings
from . import file
from .backup import tables as stored_tables

ASYNC_DRIVER = "sqlite+aiosqlite"
SYNC_DRIVER = "sqlite+pysqlite"
# Until its end, reads see what was committed before the first of them; in WAL mode nobody waits for that.
SNAPSHOT = ("BEGIN",)

scratch = file.scratch
migration_lock = file.migration_lock

# How long a writer waits for another one before it gives up, in seconds.
_BUSY_TIMEOUT_SECONDS = 5
_TRANSIENT = ("database is locked", "database table is locked", "unable to open database file", "disk i/o error")


class Settings(DatabaseSettings):
    """Database"""

    url_schemes: ClassVar = ("sqlite",)
    url_example: ClassVar = "sqlite:///data/service.db"

    database_url: str = Field("sqlite:///data/service.db", description="Where the data is, as an SQLAlchemy URL.")
    database_pool_size: int = Field(
        16, ge=1, description="How many connections are kept open; what waits for one costs more than it does."
    )
    database_pool_timeout_seconds: float = Field(
        5.0, gt=0, description="How long a request waits for a free connection; then it gets 503."
    )


@compiles(BigInteger, "sqlite")
def _any_size(_type: BigInteger, _compiler: Any, **_options: Any) -> str:
    """Write INTEGER, which holds 64 bits here, and is what a key must be called to be counted up by itself."""
    return "INTEGER"


def engine_options(settings: Any) -> dict[str, Any]:
    options = {"connect_args": {"timeout": _BUSY_TIMEOUT_SECONDS, "uri": True}}
    in_memory = file.path_of(make_url(settings.database_url)) is None
    return options if in_memory else file.pool_options(settings) | options


def prepare(url: URL) -> None:
    """Make the folder, and the file where there is none; no connection makes it."""
    file.prepare(url)
    path = file.path_of(url)
    if path and not str(path).startswith("file:"):
        with suppress(OSError):  # the connection says what is wrong
            path.touch()


def before_connect(arguments: list[Any]) -> None:
    """Open the file that is there. One that was lost would be made anew by whoever connects next, and be empty."""
    database = arguments[0]
    if not database.startswith((":memory:", "file:")):
        arguments[0] = f"file:{quote(database)}?mode=rw"


def connector(_settings: Any, _is_async: bool) -> None:
    """Connections are opened by the driver itself."""


def on_connect(connection: Any) -> None:
    """Let readers and the writer work side by side (WAL), and have foreign keys enforced, which SQLite leaves off."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def ping(connection: Connection) -> None:
    """Open the file anew and read from it: a connection that has it open notices neither its loss nor its state."""
    path = file.path_of(connection.engine.url)
    if path is None:
        return
    # mode=rw: ATTACH would make a new file in the place of a lost one.
    connection.execute(text("ATTACH DATABASE :file AS ping"), {"file": f"file:{quote(str(path))}?mode=rw"})
    try:
        connection.scalar(text("SELECT count(*) FROM ping.sqlite_master"))
    finally:
        connection.execute(text("DETACH DATABASE ping"))


def is_transient(error: Exception) -> bool:
    return isinstance(error, OperationalError) and str(error.orig).lower().startswith(_TRANSIENT)


def is_conflict(error: Exception) -> bool:
    return isinstance(error, IntegrityError) and "UNIQUE constraint failed" in str(error.orig)


def ask_service(_settings: Any) -> None:
    """The database lets other processes in."""


def stored(column: Column[Any]) -> ColumnElement[Any]:
    """What is stored is a number, a text or bytes, whatever the column is called."""
    return column


delete_rows = stored_tables.delete_rows


@contextmanager
def restoring(connection: Connection, _tables: Sequence[Table]) -> Iterator[None]:
    """Have foreign keys looked at when the transaction is committed. Keys are counted on by themselves."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    yield
