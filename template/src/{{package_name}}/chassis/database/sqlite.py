"""SQLite (https://sqlite.org): a file next to the service, one writer at a time, nothing to install."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import Field
from sqlalchemy import BigInteger, Connection, Engine, event, make_url, text
from sqlalchemy.exc import IntegrityError, InvalidatePoolError, OperationalError
from sqlalchemy.ext.compiler import compiles

from . import Settings as DatabaseSettings
from . import file
from .backend import ReadOnlyError, reconnect_after

ASYNC_DRIVER = "sqlite+aiosqlite"
SYNC_DRIVER = "sqlite+pysqlite"

path_of = file.path_of
measure = file.measure
scratch = file.scratch
migration_lock = file.migration_lock
url_problem = file.url_problem

# How long a writer waits for another one.
_BUSY_TIMEOUT_SECONDS = 5
_TRANSIENT = (
    "database is locked", "database table is locked", "unable to open database file", "database or disk is full",
)  # fmt: skip
# The file is or was damaged, replaced or read-only. An open connection may fail even after the file is repaired.
_LASTING = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PAGES = ("page_size", "page_count", "freelist_count", "max_page_count")


class Settings(DatabaseSettings):
    """Database"""

    url_schemes: ClassVar = ("sqlite",)
    url_example: ClassVar = "sqlite:///data/service.db"

    database_url: str = Field("sqlite:///data/service.db", description="SQLAlchemy URL of the database file.")
    database_pool_size: int = Field(
        16, ge=1, description="Connections to keep open; waiting for one costs more than keeping it open."
    )
    database_pool_timeout_seconds: float = Field(
        5.0, gt=0, description="Time that a request waits for a free connection before it gets 503."
    )


@compiles(BigInteger, "sqlite")
def _as_integer(_type: BigInteger, _compiler: Any, **_options: Any) -> str:
    """Compile BIGINT to INTEGER: it holds 64 bits, and SQLite generates keys only for columns of this type."""
    return "INTEGER"


def engine_options(settings: Settings) -> dict[str, Any]:
    options = {"connect_args": {"timeout": _BUSY_TIMEOUT_SECONDS, "uri": True}}
    if file.path_of(make_url(settings.database_url)) is None:
        return options
    return file.pool_options(settings.database_pool_size, settings.database_pool_timeout_seconds) | options


def set_up(engine: Engine, _settings: Settings) -> None:
    """Create the folder, and the file if it does not exist, because connections do not create it."""
    file.prepare(engine.url)
    if path := file.path_of(engine.url):
        with suppress(OSError):  # the first connection reports the problem instead
            path.touch()
        _detect_replaced_file(engine, path)
    event.listen(engine, "do_connect", _open_existing_file)
    event.listen(engine, "connect", _configure)
    if engine.dialect.is_async:  # aiosqlite waits for another thread, even if there is nothing to commit
        commit = engine.dialect.do_commit
        vars(engine.dialect)["do_commit"] = lambda one: _is_unchanged(one) or commit(one)
    # The low byte of an extended result code is the primary result code.
    reconnect_after(engine, lambda error: getattr(error, "sqlite_errorcode", 0) & 0xFF in _LASTING)


def _open_existing_file(_dialect: Any, _record: Any, arguments: list[Any], _options: Any) -> None:
    """Open only an existing file. Otherwise the next connection would replace a lost file by an empty one."""
    if not arguments[0].startswith(":memory:"):
        arguments[0] = f"file:{quote(arguments[0])}?mode=rw"


def _detect_replaced_file(engine: Engine, path: Path) -> None:
    """Replace the connections of the pool if their file was deleted or replaced; SQLite would go on to write to it."""

    def file_id() -> tuple[float, ...] | None:
        with suppress(OSError):
            return path.stat()[1:3]  # its inode and its device
        return None

    @event.listens_for(engine, "connect")
    def _(_connection: Any, record: Any) -> None:
        record.info["file"] = file_id()

    @event.listens_for(engine, "checkout")
    def _(_connection: Any, record: Any, _fairy: Any) -> None:
        if record.info["file"] != file_id():
            raise InvalidatePoolError


def _is_unchanged(connection: Any) -> bool:
    """Return whether there is nothing to commit. The commit itself fails on a closed connection."""
    with suppress(AttributeError, ValueError):  # the connection was detached from its pool, or closed
        return not connection.driver_connection.in_transaction
    return False


def _configure(connection: Any, _record: Any) -> None:
    """Let readers and a writer work at the same time (WAL), and enforce foreign keys, which are off by default."""
    cursor = connection.cursor()
    for setting in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def ping(connection: Connection) -> None:
    """Open the file again and read it, because an open connection does not notice the loss of its file."""
    path = file.path_of(connection.engine.url)
    if path is None:
        return
    file.check_writable(path)
    # mode=rw, because ATTACH would create a missing file.
    connection.execute(text("ATTACH DATABASE :file AS ping"), {"file": f"file:{quote(str(path))}?mode=rw"})
    try:
        connection.scalar(text("SELECT count(*) FROM ping.sqlite_master"))
    finally:
        connection.execute(text("DETACH DATABASE ping"))
    size, pages, free, limit = (connection.scalar(text(f"PRAGMA {name}")) or 0 for name in _PAGES)
    if (limit - pages + free) * size < file.PROBE_BYTES:
        raise ReadOnlyError("the database has reached max_page_count")


def is_transient(error: Exception) -> bool:
    return isinstance(error, OperationalError) and str(error.orig).lower().startswith(_TRANSIENT)


def is_conflict(error: Exception) -> bool:
    return isinstance(error, IntegrityError) and "UNIQUE constraint failed" in str(error.orig)
