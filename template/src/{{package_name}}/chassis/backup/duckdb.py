"""Backups of DuckDB: a copy of its file, which `duckdb` opens.

DuckDB's own export cannot be used: it writes a schema that its import rejects when a table refers to itself, and loads
the rows of such a table in an order that breaks the reference. Only one process may open the file, so a running service
makes the backup: `service_socket.py`.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import duckdb
from sqlalchemy import Connection

from ..app import Chassis
from ..database import duckdb as backend
from ..database import file
from . import BackupError, DatabaseBackup, Settings, service_socket
from .make import BackupResult


class Backup(DatabaseBackup):
    """Backs up the whole file. Readers continue while it is copied; writers wait for the copy."""

    backend = backend
    dump_name = "database.duckdb"

    def tool_version(self) -> str:
        return f"DuckDB {duckdb.__version__}"

    def install(self, chassis: Chassis) -> None:
        settings = chassis.settings_as(Settings)
        chassis.lifespans.append(("backup_socket", lambda: service_socket.listening(settings, self._make_here)))

    def make(self, settings: Settings) -> BackupResult:
        """Ask the running service for a backup, or make it if none runs."""
        return service_socket.request_backup(settings) or self._make_here(settings)

    def _make_here(self, settings: Settings) -> BackupResult:
        return super().make(settings)

    def dump(self, connection: Connection, target: Path, timeout_seconds: float) -> None:
        path = _path(connection)
        # No other connection can write until this transaction ends, so the file and its log do not change.
        connection.exec_driver_sql("CHECKPOINT")
        try:
            for source in (path, _log_of(path)):
                if source.exists():
                    _copy(source, target.with_name(source.name.replace(path.name, target.name)), timeout_seconds)
        finally:
            connection.rollback()
        _open(target).close()

    def restore(self, connection: Connection, source: Path, timeout_seconds: float) -> None:
        """Replace the file in one step. This process has the old file open, which keeps other processes out."""
        path = _path(connection)
        _open(source).close()
        new = path.with_name(f".{path.name}.restored")
        try:
            shutil.copyfile(source, new)
            shutil.copymode(path, new)
            connection.exec_driver_sql("CHECKPOINT")  # CHECKPOINT deletes the log of the file
            connection.rollback()
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)


def _path(connection: Connection) -> Path:
    path = file.path_of(connection.engine.url)
    if path is None:
        raise BackupError("the database is in memory; DATABASE_URL must name a file")
    return path


def _log_of(path: Path) -> Path:
    """Return the write-ahead log of a database, which is merged into the file when that is next opened."""
    return path.with_name(f"{path.name}.wal")


def _copy(source: Path, target: Path, timeout_seconds: float) -> None:
    """Copy a file in another process, because a process that closes a file loses all its locks on it, even DuckDB's."""
    try:
        subprocess.run(
            ["cp", "--", source, target], capture_output=True, text=True, check=True, timeout=timeout_seconds
        )
    except subprocess.CalledProcessError as error:
        raise BackupError(f"the database could not be copied: {error.stderr.strip()}") from error
    except subprocess.TimeoutExpired:
        raise BackupError(f"the copy took longer than BACKUP_TIMEOUT_SECONDS, {timeout_seconds:g} s") from None


def _open(path: Path) -> duckdb.DuckDBPyConnection:
    """Open a copy, to prove that it can be read, and to merge its log into it."""
    try:
        opened = duckdb.connect(str(path), config={"threads": 1, "autoload_known_extensions": False})
        return opened.execute("CHECKPOINT")
    except duckdb.Error as error:
        raise BackupError(f"DuckDB cannot open the copy of the database: {error}") from error
