"""The questions that every database answers; `sqlite.py` is one set of answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import URL, Column, ColumnElement, Connection, Engine, Table

from . import Settings as DatabaseSettings

if TYPE_CHECKING:
    from .backup.dump import Made


class MigrationError(Exception):
    """A migration cannot be run; the text says why, and what to do."""


def wait_for_lock(try_to_lock: Callable[[], bool], timeout_seconds: float) -> None:
    """Try again and again: what waits inside of the database stands in the way of those that hold the lock."""
    deadline = time.monotonic() + timeout_seconds
    while not try_to_lock():
        if time.monotonic() > deadline:
            raise MigrationError(f"another migration, backup or restore has had the lock for {timeout_seconds:g} s")
        time.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Connector:
    """How a server is reached, and how long it is waited for: to open a connection, and for any one answer after that.

    `set_patience(connection, seconds)` has a connection of the driver's wait for another time than the usual one.
    """

    connect: Callable[..., Any]
    set_patience: Callable[[Any, float], None]
    connect_seconds: float
    patience_seconds: float


class Dialect(Protocol):
    """A module of this form makes a database an option. `settings` are those of its own class `Settings`."""

    ASYNC_DRIVER: str
    SYNC_DRIVER: str

    # What makes the next transaction see one moment of the whole database, and stand in nobody's way.
    @property
    def SNAPSHOT(self) -> Sequence[str]: ...  # noqa: N802

    @property
    def Settings(self) -> type[DatabaseSettings]: ...  # noqa: N802

    def engine_options(self, settings: Any) -> dict[str, Any]:
        """Return what `create_engine` is called with: pool, time-outs, connect arguments."""

    def connector(self, settings: Any, is_async: bool) -> Connector | Callable[..., Any] | None:
        """Return what opens connections in the place of the driver's own function: of a server, or just a function."""

    def prepare(self, url: URL) -> None:
        """Make what must exist before the first connection."""

    def migration_lock(self, engine: Engine, timeout_seconds: float) -> AbstractContextManager[object]:
        """Let one process at a time apply migrations, however many start at once.

        Raises:
            MigrationError: another one had the lock for all of `timeout_seconds`, or the database is not fit for any.
        """

    def before_connect(self, arguments: list[Any]) -> None:
        """Change what a connection is about to be opened with."""

    def on_connect(self, connection: Any) -> None:
        """Set up a new DBAPI connection."""

    def ping(self, connection: Connection) -> None:
        """Ask what only a database can answer that is there and can be read, and raise when it does not."""

    def is_transient(self, error: Exception) -> bool:
        """Tell whether the database is away for the moment: 503, and worth another try."""

    def is_conflict(self, error: Exception) -> bool:
        """Tell whether the statement contradicts what is stored: 409."""

    def ask_service(self, settings: Any) -> Made | None:
        """Have the running service make a backup, when it keeps others out; None: it does not run, or does not."""

    def stored(self, column: Column[Any]) -> ColumnElement[Any]:
        """Return what reads a column so that nothing of its value is lost, in a form that an INSERT takes back."""

    def delete_rows(self, connection: Connection, tables: Sequence[Table]) -> None:
        """Delete every row of tables of which each stands after those that it points to."""

    def restoring(self, connection: Connection, tables: Sequence[Table]) -> AbstractContextManager[object]:
        """Let rows come in any order inside of this, which is one transaction; their keys are counted on from there."""

    def scratch(self, url: URL, folder: Path) -> AbstractContextManager[URL]:
        """Lend an empty database of the same kind, in `folder` or on the same server, which is gone afterwards."""
