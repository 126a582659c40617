"""SQLite (https://sqlite.org): a file beside the service, one writer at a time, nothing to install."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL
from sqlalchemy.exc import IntegrityError, OperationalError

ASYNC_DRIVER = "sqlite+aiosqlite"
SYNC_DRIVER = "sqlite+pysqlite"

# How long a writer waits for another one before it gives up, in seconds.
_BUSY_TIMEOUT_SECONDS = 5
_TRANSIENT = ("database is locked", "database table is locked", "unable to open database file", "disk i/o error")


def engine_options(_settings: Any) -> dict[str, Any]:
    return {"connect_args": {"timeout": _BUSY_TIMEOUT_SECONDS}}


def prepare(url: URL) -> None:
    """Make the folder of the file."""
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def migration_lock(url: URL) -> Iterator[None]:
    """Lock a file beside the database; the lock goes with the process that holds it, so none is ever left behind."""
    if not url.database or url.database == ":memory:":
        yield
        return
    with Path(f"{url.database}.migration-lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
