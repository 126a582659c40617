"""Backups of SQLite: its online backup (https://sqlite.org/backup.html) writes a file that `sqlite3` can open."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

from sqlalchemy import Connection

from ..database import sqlite
from . import BackupError, DatabaseBackup

# How many pages are copied between two checks of signals and the time limit.
_PAGES = 10_000


class Backup(DatabaseBackup):
    """Backs up the whole file. Readers and writers continue while it is copied."""

    backend = sqlite
    dump_name = "database.sqlite"

    def tool_version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def dump(self, connection: Connection, target: Path, timeout_seconds: float) -> None:
        source = _driver_connection(connection)
        with closing(sqlite3.connect(target)) as copy:
            # An open transaction sees one snapshot. Without it, every commit of the service would start the copy again.
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            try:
                _copy(source, copy, timeout_seconds)
            finally:
                source.rollback()
            _require_intact(copy)

    def restore(self, connection: Connection, source: Path, timeout_seconds: float) -> None:
        """Copy the backup over the database in one transaction, which SQLite rolls back if it is interrupted."""
        with closing(sqlite3.connect(source)) as copy:
            _require_intact(copy)
            _copy(copy, _driver_connection(connection), timeout_seconds)


def _driver_connection(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, timeout_seconds: float) -> None:
    try:
        source.backup(target, pages=_PAGES, progress=_time_limit(timeout_seconds), sleep=0.1)
    except sqlite3.Error as error:
        raise BackupError(f"SQLite could not copy the database: {error}") from error


def _time_limit(timeout_seconds: float) -> Callable[[int, int, int], None]:
    """Return a function that raises once the time is over. Until then, a locked database is retried."""
    deadline = time.monotonic() + timeout_seconds

    def check(_status: int, _remaining: int, _total: int) -> None:
        if time.monotonic() > deadline:
            raise BackupError(f"the copy took longer than BACKUP_TIMEOUT_SECONDS, {timeout_seconds:g} s")

    return check


def _require_intact(copy: sqlite3.Connection) -> None:
    try:
        (result,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        result = str(error)
    if result != "ok":
        raise BackupError(f"the database is corrupt: {result.splitlines()[-1]}")
