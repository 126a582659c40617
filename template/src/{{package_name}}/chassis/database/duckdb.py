"""DuckDB (https://duckdb.org): a file for analytics, which one process at a time may have open."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import duckdb
from duckdb_sqlalchemy import ConnectionWrapper
from duckdb_sqlalchemy import Dialect as DuckDBDialect
from pydantic import Field
from sqlalchemy import (
    URL,
    AsyncAdaptedQueuePool,
    Column,
    ColumnElement,
    Connection,
    Engine,
    LargeBinary,
    Pool,
    Text,
    cast,
    text,
)
from sqlalchemy.dialects import registry
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles

from . import Settings as DatabaseSettings
from . import file, in_process
from .backup import anew, by_service
from .dialect import MigrationError

if TYPE_CHECKING:
    from .backup.dump import Made

# The driver looks for pandas with every parameter; where there is none, that takes longer than most statements.
if find_spec("pandas") is None:
    sys.modules["pandas"] = None  # type: ignore[assignment]

ASYNC_DRIVER = "duckdb+threads"
SYNC_DRIVER = "duckdb"
# Nothing: every transaction sees what there was when it began.
SNAPSHOT: Sequence[str] = ()

prepare = file.prepare
scratch = file.scratch
BackupFeature = by_service.BackupFeature


class Settings(DatabaseSettings):
    """Database"""

    url_schemes: ClassVar = ("duckdb",)
    url_example: ClassVar = "duckdb:///data/service.duckdb"

    database_url: str = Field("duckdb:///data/service.duckdb", description="Where the data is, as an SQLAlchemy URL.")
    database_pool_size: int = Field(
        10, ge=1, description="How many statements may run at a time, each in a thread of its own."
    )
    database_pool_timeout_seconds: float = Field(
        5.0, gt=0, description="How long a request waits for a free connection; then it gets 503."
    )
    database_statement_timeout_seconds: float = Field(
        5.0, gt=0, description="How long a statement may take, and how long a writer waits for another one; then 503."
    )
    database_threads: int = Field(2, ge=1, description="How many cores the database may use at a time.")
    database_memory_limit_bytes: int = Field(
        268_435_456, ge=33_554_432, description="How much memory the database may use; what is more goes to disk."
    )
    database_temp_directory: str = Field(
        "", description="Where on disk; by default a folder beside the database's file."
    )


@compiles(Text, "duckdb")
def _any_length(_type: Text, _compiler: Any, **_options: Any) -> str:
    """Write what DuckDB itself makes of TEXT, so that a migration finds no difference."""
    return "VARCHAR"


class AsyncDialect(DuckDBDialect):
    """The same dialect for an asynchronous engine, whose connections work in threads of their own anyway."""

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


def engine_options(settings: Any) -> dict[str, Any]:
    config = {
        "threads": settings.database_threads,
        "memory_limit": f"{settings.database_memory_limit_bytes}B",
        # Nothing is fetched from the network while a request waits.
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if settings.database_temp_directory:
        config["temp_directory"] = settings.database_temp_directory
    return file.pool_options(settings) | {"connect_args": {"config": config}}


def connector(settings: Any, is_async: bool) -> Callable[..., Any]:
    """All connections of a process share one instance of the database, which is opened by the first of them."""

    def connect(database: str, url_config: dict[str, Any], config: dict[str, Any]) -> ConnectionWrapper:
        def open_database() -> duckdb.DuckDBPyConnection:
            native = duckdb.connect(database, config=config | url_config)
            return native.execute("SET TimeZone = 'UTC'")

        return ConnectionWrapper(
            in_process.Connection(open_database, settings.database_statement_timeout_seconds, is_async)  # type: ignore[arg-type]
        )

    return connect


@contextmanager
def migration_lock(engine: Engine, timeout_seconds: float) -> Iterator[None]:
    """Let one migration after the other open the file; a service that has it open would let none."""
    with file.migration_lock(engine, timeout_seconds):
        try:
            engine.connect().close()
        except DBAPIError as error:
            if not _is_open_elsewhere(error):
                raise
            raise MigrationError(
                "another process has the database open, most likely the service; stop it, and start it again afterwards"
            ) from error
        yield


def before_connect(_arguments: list[Any]) -> None:
    """The file is opened once, by the first connection."""


def on_connect(_connection: Any) -> None:
    """Everything was said when the connection was opened."""


def ping(connection: Connection) -> None:
    """Ask whether the file is still there too: it stays open when it is lost. Opening it anew would break its lock."""
    connection.execute(text("SELECT 1"))
    path = file.path_of(connection.engine.url)
    if path and not os.access(path, os.R_OK | os.W_OK):
        raise OSError("the file of the database is lost, or closed to this process")


def is_transient(error: Exception) -> bool:
    cause = getattr(error, "orig", None)
    if isinstance(cause, duckdb.TransactionException):
        return "conflict" in str(cause).lower()  # somebody else changed the same row meanwhile
    return _is_open_elsewhere(error) or isinstance(
        cause, (duckdb.InterruptException, duckdb.OutOfMemoryException, in_process.WriterBusyError)
    )


def is_conflict(error: Exception) -> bool:
    cause = getattr(error, "orig", None)
    kinds = (duckdb.ConstraintException, duckdb.TransactionException)
    return isinstance(cause, kinds) and "duplicate key" in str(cause).lower()


def ask_service(settings: Any) -> Made | None:
    return by_service.ask(settings, SYNC_DRIVER)


def stored(column: Column[Any]) -> ColumnElement[Any]:
    """Take a value as the database writes it, nested ones too, and bytes as they are; it reads it back by itself."""
    return column if isinstance(column.type, LargeBinary) else cast(column, Text)


delete_rows = anew.delete_rows
restoring = anew.restoring


def _is_open_elsewhere(error: Exception) -> bool:
    cause = getattr(error, "orig", None)
    return isinstance(cause, duckdb.IOException) and "Could not set lock" in str(cause)
