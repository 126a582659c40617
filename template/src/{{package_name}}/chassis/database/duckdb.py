"""DuckDB (https://duckdb.org): a file for analytics, which one process at a time can open."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, ClassVar

import duckdb
from duckdb_sqlalchemy import ConnectionWrapper
from duckdb_sqlalchemy import Dialect as DuckDBDialect
from pydantic import Field
from sqlalchemy import URL, AsyncAdaptedQueuePool, Connection, Engine, Pool, Text, text
from sqlalchemy.dialects import registry
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles

from . import Settings as DatabaseSettings
from . import duckdb_connection, file
from .backend import MigrationError, connect_with

# The driver looks for pandas at every parameter. If pandas is missing, that takes longer than most statements.
if find_spec("pandas") is None:
    sys.modules["pandas"] = None  # type: ignore[assignment]

ASYNC_DRIVER = "duckdb+threads"
SYNC_DRIVER = "duckdb"

path_of = file.path_of
measure = file.measure
scratch = file.scratch
url_problem = file.url_problem


class Settings(DatabaseSettings):
    """Database"""

    url_schemes: ClassVar = ("duckdb",)
    url_example: ClassVar = "duckdb:///data/service.duckdb"

    database_url: str = Field("duckdb:///data/service.duckdb", description="SQLAlchemy URL of the database file.")
    database_pool_size: int = Field(
        10, ge=1, description="Statements that may run at the same time, each in its own thread."
    )
    database_pool_timeout_seconds: float = Field(
        5.0, gt=0, description="Time that a request waits for a free connection before it gets 503."
    )
    database_statement_timeout_seconds: float = Field(
        5.0, gt=0, description="Time limit of a statement, and of a writer's wait for another one; then 503."
    )
    database_threads: int = Field(2, ge=1, description="Cores that the database may use at the same time.")
    database_memory_limit_bytes: int = Field(
        268_435_456, ge=33_554_432, description="Memory that the database may use; larger results go to disk."
    )
    database_temp_directory: str = Field(
        "", description="Folder for results on disk; by default next to the database file."
    )


@compiles(Text, "duckdb")
def _any_length(_type: Text, _compiler: Any, **_options: Any) -> str:
    """Compile TEXT to VARCHAR, as DuckDB stores it, so that a migration finds no difference."""
    return "VARCHAR"


class AsyncDialect(DuckDBDialect):
    """The dialect for an asynchronous engine. Connections work in their own threads in both kinds of engines."""

    driver = "threads"
    is_async = True
    has_terminate = True
    supports_statement_cache = True

    @classmethod
    def get_pool_class(cls, url: URL) -> type[Pool]:
        return AsyncAdaptedQueuePool

    def connect(self, *arguments: Any, async_creator_fn: Callable[..., Any], **options: Any) -> Any:
        return async_creator_fn(*arguments, **options)

    def do_terminate(self, dbapi_connection: Any) -> None:
        dbapi_connection.terminate()


registry.register("duckdb.threads", __name__, AsyncDialect.__name__)


def engine_options(settings: Settings) -> dict[str, Any]:
    config: dict[str, Any] = {
        "threads": settings.database_threads,
        "memory_limit": f"{settings.database_memory_limit_bytes}B",
        # A request must not wait for a download.
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if settings.database_temp_directory:
        config["temp_directory"] = settings.database_temp_directory
    pool = file.pool_options(settings.database_pool_size, settings.database_pool_timeout_seconds)
    return pool | {"connect_args": {"config": config}}


def set_up(engine: Engine, settings: Settings) -> None:
    """Share one instance of the database among all connections of the process; the first one opens it."""
    file.prepare(engine.url)

    def connect(database: str, url_config: dict[str, Any], config: dict[str, Any]) -> ConnectionWrapper:
        def open_database() -> duckdb.DuckDBPyConnection:
            native = duckdb.connect(database, config=config | url_config)
            return native.execute("SET TimeZone = 'UTC'")

        timeout_seconds = settings.database_statement_timeout_seconds
        return ConnectionWrapper(duckdb_connection.Connection(open_database, timeout_seconds, engine.dialect.is_async))  # type: ignore[arg-type]

    connect_with(engine, connect)


@contextmanager
def migration_lock(engine: Engine, timeout_seconds: float) -> Iterator[None]:
    """Lock the file. A running service has it open, so no migration can run then."""
    with file.migration_lock(engine, timeout_seconds):
        try:
            engine.connect().close()
        except DBAPIError as error:
            if not _is_open_elsewhere(error):
                raise
            raise MigrationError(
                "another process has the database open, most likely the service; stop it and start it again afterwards"
            ) from error
        yield


def ping(connection: Connection) -> None:
    """Check that the file still exists, because an open connection does not notice its loss.

    The file is not opened again, because that would release its lock.
    """
    connection.execute(text("SELECT 1"))
    path = file.path_of(connection.engine.url)
    if path:
        file.check_writable(path)


def is_transient(error: Exception) -> bool:
    cause = getattr(error, "orig", None)
    if isinstance(cause, duckdb.Error) and os.strerror(errno.ENOSPC).lower() in str(cause).lower():
        return True
    if isinstance(cause, duckdb.TransactionException):
        return "conflict" in str(cause).lower()  # another transaction changed the same row
    return _is_open_elsewhere(error) or isinstance(
        cause, (duckdb.InterruptException, duckdb.OutOfMemoryException, duckdb_connection.WriterBusyError)
    )


def is_conflict(error: Exception) -> bool:
    cause = getattr(error, "orig", None)
    kinds = (duckdb.ConstraintException, duckdb.TransactionException)
    return isinstance(cause, kinds) and "duplicate key" in str(cause).lower()


def _is_open_elsewhere(error: Exception) -> bool:
    cause = getattr(error, "orig", None)
    return isinstance(cause, duckdb.IOException) and "Could not set lock" in str(cause)
