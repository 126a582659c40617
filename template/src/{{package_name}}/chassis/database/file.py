"""Shared parts of databases in a file: pool, folder, and the lock of a migration."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from sqlalchemy import URL, Engine

from ..instrumentation import Measurement
from ..settings import SettingsError
from .backend import DiskFullError, ReadOnlyError, wait_for_lock

# The space that a database needs to continue: a few pages and their entries in its log.
PROBE_BYTES = 65_536


def pool_options(pool_size: int, pool_timeout_seconds: float) -> dict[str, Any]:
    """Return the arguments of `create_engine` that are the same for every database in a file."""
    return {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": pool_timeout_seconds}


def path_of(url: URL) -> Path | None:
    """Return the path of the file, or None for a database in memory."""
    return Path(url.database) if url.database and not url.database.startswith(":memory:") else None


def check_writable(path: Path) -> None:
    """Raise an exception if the file is missing, cannot be written, or has no space left on its disk.

    It writes a small temporary file next to the database. This also detects a full quota, and a folder in which no log
    can be created.
    """
    if not os.access(path, os.R_OK):
        raise OSError("the database file is missing or not accessible")
    if not os.access(path, os.W_OK):
        raise ReadOnlyError
    try:
        with TemporaryFile(dir=path.parent, buffering=0) as probe:
            is_full = probe.write(bytes(PROBE_BYTES)) < PROBE_BYTES
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise ReadOnlyError from error
        is_full = True
    if is_full:
        raise DiskFullError


def measure(engine: Engine) -> Iterator[Measurement]:
    """Return the space on the disk of the file."""
    path = path_of(engine.url)
    if path is None or not path.parent.is_dir():
        return
    total_bytes, _, free_bytes = shutil.disk_usage(path.parent)
    yield Measurement("database.disk.free", "Free space on the disk of the database file.", free_bytes, unit="By")
    yield Measurement("database.disk.size", "Size of the disk of the database file.", total_bytes, unit="By")


def prepare(url: URL) -> None:
    """Create the folder of the file."""
    path = path_of(url)
    try:
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"the folder cannot be created: {error.strerror}; use another path (got '{path}')"
        raise SettingsError([f"DATABASE_URL: {problem}"]) from error


def url_problem(_error: Exception) -> None:
    """Return None: a file has no user and no privileges."""


@contextmanager
def scratch(url: URL, folder: Path) -> Iterator[URL]:
    """Provide a file that does not exist yet; it is deleted with the folder."""
    yield url.set(database=str(folder / "scratch"))


@contextmanager
def migration_lock(engine: Engine, timeout_seconds: float) -> Iterator[None]:
    """Lock a file next to the database. The operating system releases the lock when the process ends."""
    path = path_of(engine.url)
    if path is None:
        yield
        return
    with Path(f"{path}.migration-lock").open("w") as file:
        wait_for_lock(lambda: _try_to_lock(file), timeout_seconds)
        yield


def _try_to_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
