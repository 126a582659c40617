"""The questions that every database answers; `sqlite.py` is one set of answers."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import URL


class Dialect(Protocol):
    """A module of this form makes a database an option."""

    ASYNC_DRIVER: str
    SYNC_DRIVER: str

    def engine_options(self, settings: Any) -> dict[str, Any]:
        """Return what `create_engine` is called with: pool, time-outs, connect arguments."""

    def prepare(self, url: URL) -> None:
        """Make what must exist before the first connection."""

    def migration_lock(self, url: URL) -> AbstractContextManager[object]:
        """Let one process at a time apply migrations, however many start at once."""

    def on_connect(self, connection: Any) -> None:
        """Set up a new DBAPI connection."""

    def is_transient(self, error: Exception) -> bool:
        """Tell whether the database is away for the moment: 503, and worth another try."""

    def is_conflict(self, error: Exception) -> bool:
        """Tell whether the statement contradicts what is stored: 409."""
