"""What the databases have in common that are a file of the service's own: connections, folder, lock of a migration."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sqlalchemy import URL, Engine

from .dialect import wait_for_lock


def pool_options(settings: Any) -> dict[str, Any]:
    """Return the options of `create_engine` that are the same for every driver."""
    return {
        "pool_size": settings.database_pool_size,
        "max_overflow": 0,
        "pool_timeout": settings.database_pool_timeout_seconds,
    }


def path_of(url: URL) -> Path | None:
    """Return where the file is, or None when the database is in memory."""
    return Path(url.database) if url.database and not url.database.startswith(":memory:") else None


def prepare(url: URL) -> None:
    """Make the folder of the file."""
    path = path_of(url)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def scratch(url: URL, folder: Path) -> Iterator[URL]:
    """Lend a file that is not there yet; the folder goes with it."""
    yield url.set(database=str(folder / "scratch"))


@contextmanager
def migration_lock(engine: Engine, timeout_seconds: float) -> Iterator[None]:
    """Lock a file beside the database; the lock goes with the process that holds it, so none is ever left behind."""
    path = path_of(engine.url)
    if path is None:
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
