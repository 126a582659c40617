"""What the commands that work on the whole database share: one connection under the lock, and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError

from .backup import BackupError
from .connection import set_up_connections, url_for
from .dialect import Dialect, MigrationError

EX_UNAVAILABLE = 69  # sysexits.h: something that the command depends on is not there


@contextmanager
def exclusive(settings: Any, dialect: Dialect, statement_timeout_seconds: float) -> Iterator[Connection]:
    """Connect under the lock of the migrations, whatever the framework: the schema stays as it is meanwhile."""
    # What a request may not wait for, such as a new index on a large table, is what such a command is for.
    settings = settings.model_copy(update={"database_statement_timeout_seconds": statement_timeout_seconds})
    url = url_for(settings, dialect.SYNC_DRIVER)
    dialect.prepare(url)
    engine = create_engine(url, **dialect.engine_options(settings))
    set_up_connections(engine, dialect, settings)
    wait_seconds = settings.database_migration_timeout_seconds
    try:
        with dialect.migration_lock(engine, wait_seconds), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def run(work: Callable[[], None], failure: str, dialect: Dialect) -> int:
    """Do what a command is for. What stands in its way is a sentence on stderr, and an exit code."""
    from alembic.util import CommandError  # a service that serves starts sooner without Alembic

    try:
        work()
    except (BackupError, CommandError, MigrationError, OSError) as error:
        print(f"{failure}: {error}", file=sys.stderr)
        return 1
    except DBAPIError as error:
        if not is_away(error, dialect):
            raise
        print(f"The database is away: {error.orig}", file=sys.stderr)
        return EX_UNAVAILABLE
    return 0


def is_away(error: DBAPIError, dialect: Dialect) -> bool:
    return error.connection_invalidated or dialect.is_transient(error)
