"""The interface that every database implements; `sqlite.py`, for example, is one implementation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, ExceptionContext, event

from ..health.checks import CheckFailedError
from ..instrumentation import Measurement
from . import Settings as DatabaseSettings


class MaintenanceError(Exception):
    """A command cannot work on the database; the message says why and what to do."""


class MigrationError(MaintenanceError):
    """A migration cannot run; the message says why and what to do."""


class ReadOnlyError(CheckFailedError):
    """The database responds but rejects writes."""

    def __init__(self, reason: str = "the database is read-only") -> None:
        super().__init__(reason)


class DiskFullError(ReadOnlyError):
    """The database responds but has no space for more data."""

    def __init__(self) -> None:
        super().__init__("the disk of the database is full")


def wait_for_lock(try_to_lock: Callable[[], bool], timeout_seconds: float) -> None:
    """Poll for a lock, because a statement that waits inside the database can block the holder of the lock.

    Raises:
        MigrationError: The lock was not free for `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds
    while not try_to_lock():
        if time.monotonic() > deadline:
            raise MigrationError(
                f"another migration, backup or restore has held the lock for {timeout_seconds:g} s; wait for its end"
            )
        time.sleep(0.1)


def connect_with(engine: Engine, connect: Callable[..., Any]) -> None:
    """Open the connections of an engine with `connect`, a coroutine function if the engine is asynchronous."""

    @event.listens_for(engine, "do_connect")
    def _(_dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
        if not engine.dialect.is_async:
            return connect(*arguments, **options)
        options["async_creator_fn"] = connect
        return None


def reconnect_after(engine: Engine, is_lasting: Callable[[Any], bool]) -> None:
    """Replace all connections of the pool after an exception of the driver that would recur on them."""

    @event.listens_for(engine, "handle_error")
    def _(failed: ExceptionContext) -> None:
        failed.is_disconnect |= is_lasting(failed.original_exception)


SettingsT = TypeVar("SettingsT", bound=DatabaseSettings)


class DatabaseBackend(Protocol[SettingsT]):
    """The interface of a database, implemented by a module. `settings` is an instance of the module's `Settings`."""

    ASYNC_DRIVER: str
    SYNC_DRIVER: str

    @property
    def Settings(self) -> type[SettingsT]: ...  # noqa: N802

    def engine_options(self, settings: SettingsT) -> dict[str, Any]:
        """Return the arguments of `create_engine`: pool, timeouts, arguments of the driver."""

    def set_up(self, engine: Engine, settings: SettingsT) -> None:
        """Define how the engine opens and configures connections, and create what the first connection needs."""

    def migration_lock(self, engine: Engine, timeout_seconds: float) -> AbstractContextManager[object]:
        """Lock the schema, so that only one process at a time migrates, even if many start at once.

        Raises:
            MigrationError: The lock was not free for `timeout_seconds`, or the database cannot be migrated.
        """

    def ping(self, connection: Connection) -> None:
        """Raise an exception if the database is unavailable, cannot be read or rejects writes."""

    def measure(self, engine: Engine) -> Iterable[Measurement]:
        """Return the measurements of this kind of database, in addition to those of the connection pool."""

    def is_transient(self, error: Exception) -> bool:
        """Return whether the error is temporary: the response is 503, and a retry may help."""

    def is_conflict(self, error: Exception) -> bool:
        """Return whether a unique constraint was violated: the response is 409."""

    def url_problem(self, error: Exception) -> str | None:
        """Return what is wrong with `DATABASE_URL` or the privileges of its user and what to do, or None."""

    def scratch(self, url: URL, folder: Path) -> AbstractContextManager[URL]:
        """Provide an empty database of the same kind, in `folder` or on the same server, and drop it afterwards."""
