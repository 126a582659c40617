"""SQLite (https://sqlite.org): a file beside the service, one writer at a time, nothing to install."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar

from pydantic import Field
from sqlalchemy import URL, BigInteger, Engine
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.compiler import compiles

from . import Settings as DatabaseSettings
from .dialect import wait_for_lock

ASYNC_DRIVER = "sqlite+aiosqlite"
SYNC_DRIVER = "sqlite+pysqlite"

# How long a writer waits for another one before it gives up, in seconds.
_BUSY_TIMEOUT_SECONDS = 5
_TRANSIENT = ("database is locked", "database table is locked", "unable to open database file", "disk i/o error")


class Settings(DatabaseSettings):
    """Database"""

    url_schemes: ClassVar = ("sqlite",)
    url_example: ClassVar = "sqlite:///data/service.db"

    database_url: str = Field("sqlite:///data/service.db", description="Where the data is, as an SQLAlchemy URL.")


@compiles(BigInteger, "sqlite")
def _any_size(_type: BigInteger, _compiler: Any, **_options: Any) -> str:
    """Write INTEGER, which holds 64 bits here, and is what a key must be called to be counted up by itself."""
    return "INTEGER"


def engine_options(_settings: Any) -> dict[str, Any]:
    return {"connect_args": {"timeout": _BUSY_TIMEOUT_SECONDS}}


def connector(_settings: Any, _is_async: bool) -> None:
    """Connections are opened by the driver itself."""


def prepare(url: URL) -> None:
    """Make the folder of the file."""
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def migration_lock(engine: Engine, timeout_seconds: float) -> Iterator[None]:
    """Lock a file beside the database; the lock goes with the process that holds it, so none is ever left behind."""
    path = engine.url.database
    if not path or path == ":memory:":
        yield
        return
    with Path(f"{path}.migration-lock").open("w") as file:
        wait_for_lock(lambda: _locked(file), timeout_seconds)
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def on_connect(connection: Any) -> None:
    """Let readers and the writer work side by side (WAL), and have foreign keys enforced, which SQLite leaves off."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def is_transient(error: Exception) -> bool:
    return isinstance(error, OperationalError) and str(error.orig).lower().startswith(_TRANSIENT)


def is_conflict(error: Exception) -> bool:
    return isinstance(error, IntegrityError) and "UNIQUE constraint failed" in str(error.orig)
