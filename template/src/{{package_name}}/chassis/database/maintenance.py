"""Shared parts of commands that work on the whole database: one connection under the migration lock, and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import extract_tb
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..lifecycle import EX_CONFIG, EX_UNAVAILABLE
from ..settings import SettingsError
from . import Settings as DatabaseSettings
from .backend import DatabaseBackend, MaintenanceError, SettingsT
from .connection import as_settings_error, is_unavailable, open_engine, url_for

# The `migrate` command, with the Python interpreter of this process, such as `.venv/bin/python -m orders migrate`.
MIGRATE = f"{sys.orig_argv[0]} -m {__name__.partition('.')[0]} migrate"


@contextmanager
def maintenance_connection(
    settings: SettingsT, backend: DatabaseBackend[SettingsT], statement_timeout_seconds: float
) -> Iterator[Connection]:
    """Connect under the migration lock, so that the schema does not change in the meantime.

    `statement_timeout_seconds` is the timeout of each statement. A new index on a large table takes longer than a
    request may.
    """
    settings = settings.model_copy(update={"database_statement_timeout_seconds": statement_timeout_seconds})
    engine = open_engine(settings, backend)
    wait_seconds = settings.database_migration_timeout_seconds
    try:
        with backend.migration_lock(engine, wait_seconds), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def require_database(settings: DatabaseSettings, backend: DatabaseBackend[Any]) -> None:
    """Raise a `MaintenanceError` if the file of the database does not exist, because connecting would create it."""
    path_of = getattr(backend, "path_of", None)
    path = path_of(url_for(settings, backend.SYNC_DRIVER)) if path_of else None
    if path and not path.exists():
        raise MaintenanceError(f"the database {path} does not exist; run `{MIGRATE}`")


def run(work: Callable[[], None], failure: str, backend: DatabaseBackend[Any]) -> int:
    """Do the work of a command and return its exit code: 0, 1, 69 (the database is unavailable) or 78 (wrong URL).

    An expected error prints one sentence on stderr, which begins with `failure`.
    """
    from alembic.util import CommandError  # imported late: a serving process does not need Alembic

    try:
        with as_settings_error(backend):
            work()
    except SettingsError as error:
        print(f"{failure}: {error}", file=sys.stderr)
        return EX_CONFIG
    except (MaintenanceError, CommandError, OSError) as error:
        print(f"{failure}: {error}", file=sys.stderr)
        return 1
    except DBAPIError as error:
        unavailable = is_unavailable(error, backend)
        frames = [frame for frame in extract_tb(error.__traceback__) if "/migrations/versions/" in frame.filename]
        if not (unavailable or frames):
            raise
        place = "the database is unavailable" if unavailable else f"{frames[-1].filename}, line {frames[-1].lineno}"
        print(f"{failure}: {place}: {' '.join(str(error.orig).split())}", file=sys.stderr)
        return EX_UNAVAILABLE if unavailable else 1
    return 0
