"""PostgreSQL (https://www.postgresql.org/docs/) with psycopg 3, one driver for both kinds of handlers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import psycopg
from psycopg import waiting
from psycopg.pq import Conninfo, TransactionStatus
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Engine, text

from . import pool
from .backend import ReadOnlyError, wait_for_lock
from .circuit import Connector, guarded_connect

# psycopg logs warnings for errors that it also raises.
logging.getLogger("psycopg").setLevel(logging.ERROR)

ASYNC_DRIVER = "postgresql+psycopg_async"
SYNC_DRIVER = "postgresql+psycopg"

# Any number will do, as long as every release of this service uses the same one.
_MIGRATION_LOCK = 5_391_417
_UNIQUE_VIOLATION, _EXCLUSION_VIOLATION = "23505", "23P01"
# https://www.postgresql.org/docs/current/errcodes-appendix.html: whole classes first, then single codes.
_TRANSIENT_CLASSES = ("08", "53", "57")  # connection exception, insufficient resources, operator intervention
_TRANSIENT = ("40001", "40P01", "55P03", "25006")  # serialization, deadlock, lock not available, read-only (standby)

# How often a waiting connection checks its timeout; psycopg does the same for Ctrl-C.
_INTERVAL_SECONDS = 0.1

T = TypeVar("T")


class Settings(pool.Settings):
    """PostgreSQL"""

    url_schemes: ClassVar = ("postgresql", "postgres")
    url_example: ClassVar = "postgresql://user:password@localhost:5432/name"
    url_parameters: ClassVar = frozenset(option.keyword.decode() for option in Conninfo.get_defaults())


def engine_options(settings: Settings) -> dict[str, Any]:
    """Return the options. The connection request contains the server's timeouts, which saves a round trip."""
    limit_ms = round(settings.database_statement_timeout_seconds * 1000)
    return pool.pool_options(settings) | {
        "connect_args": {
            "connect_timeout": settings.database_connect_timeout_seconds,
            # An open transaction holds its locks even after its request has ended.
            "options": f"-c statement_timeout={limit_ms} -c idle_in_transaction_session_timeout={limit_ms * 6}",
            "keepalives_idle": settings.database_keepalive_idle_seconds,
            "keepalives_interval": settings.database_keepalive_interval_seconds,
            "keepalives_count": settings.database_keepalive_count,
            # Limits how long sent data may stay unacknowledged, because the machine or the network is unreachable.
            "tcp_user_timeout": round(pool.read_timeout_seconds(settings) * 1000),
        }
    }


class _ReadTimeout:
    """Limits the wait for a response; psycopg itself waits without a limit for a server that hangs."""

    read_timeout_seconds = float("inf")

    def limit(self, steps: Generator[Any, Any, T], timeout: float | None) -> Generator[Any, Any, T]:
        """Pass on the steps of one exchange with the server; steps also occur while nothing arrives."""
        seconds = min(self.read_timeout_seconds, timeout or self.read_timeout_seconds)
        deadline = time.monotonic() + seconds
        try:
            state = next(steps)
            while True:
                ready = yield state
                if time.monotonic() > deadline:
                    raise psycopg.OperationalError(f"no response within {seconds:g} s")
                state = steps.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result

    @staticmethod
    def close_if_waiting(connection: psycopg.pq.abc.PGconn, error: BaseException) -> None:
        """Close a connection whose response will not be read. The server ends the statement at its own timeout."""
        # An error from the server is a response, even if results of an executemany() precede it.
        is_response = isinstance(error, psycopg.Error) and error.sqlstate is not None
        if not is_response and connection.transaction_status == TransactionStatus.ACTIVE:
            connection.finish()


class Connection(_ReadTimeout, psycopg.Connection[Any]):
    """A connection for synchronous handlers."""

    def wait(self, gen: Any, *_interval: Any, **options: Any) -> Any:
        try:
            return waiting.wait(self.limit(gen, options.get("timeout")), self.pgconn.socket, _INTERVAL_SECONDS)
        except BaseException as error:
            self.close_if_waiting(self.pgconn, error)
            raise


class AsyncConnection(_ReadTimeout, psycopg.AsyncConnection[Any]):
    """A connection for asynchronous handlers. A cancelled task does not wait for the server's confirmation."""

    async def wait(self, gen: Any, *_interval: Any, **options: Any) -> Any:
        try:
            return await waiting.wait_async(
                self.limit(gen, options.get("timeout")), self.pgconn.socket, _INTERVAL_SECONDS
            )
        except BaseException as error:
            self.close_if_waiting(self.pgconn, error)
            raise


def connector(engine: Engine, settings: Settings) -> Callable[..., Any]:
    """Connect behind a circuit breaker, and limit every wait for the server."""
    seconds = pool.read_timeout_seconds(settings)

    def connect(*arguments: Any, **options: Any) -> Connection:
        connection = Connection.connect(*arguments, **options)
        connection.read_timeout_seconds = seconds
        return connection

    async def connect_async(*arguments: Any, **options: Any) -> AsyncConnection:
        connection = await AsyncConnection.connect(*arguments, **options)
        connection.read_timeout_seconds = seconds
        return connection

    server = Connector(
        connect=connect_async if engine.dialect.is_async else connect,
        set_read_timeout=_set_read_timeout,
        connect_timeout_seconds=settings.database_connect_timeout_seconds,
        read_timeout_seconds=seconds,
        pre_ping=settings.database_pool_pre_ping,
    )
    return guarded_connect(engine, server)


def _set_read_timeout(connection: Any, seconds: float) -> None:
    connection.read_timeout_seconds = seconds


prepare = pool.prepare
before_connect = pool.before_connect
on_connect = pool.on_connect
scratch = pool.scratch


@contextmanager
def migration_lock(engine: Engine, timeout_seconds: float) -> Iterator[None]:
    """Take an advisory lock on a separate connection; the server releases it when that connection ends."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try_lock = text("SELECT pg_try_advisory_lock(:key)").bindparams(key=_MIGRATION_LOCK)
        wait_for_lock(lambda: bool(connection.scalar(try_lock)), timeout_seconds)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)").bindparams(key=_MIGRATION_LOCK))


def ping(connection: SqlConnection) -> None:
    """Raise an exception if the server does not accept writes, as a standby does, or a primary with a full disk."""
    if connection.scalar(text("SELECT current_setting('transaction_read_only')")) == "on":
        raise ReadOnlyError


def is_transient(error: Exception) -> bool:
    state = _sqlstate(error)
    if state is None:  # the server was not reached
        return isinstance(getattr(error, "orig", None), psycopg.OperationalError)
    return state.startswith(_TRANSIENT_CLASSES) or state in _TRANSIENT


def is_conflict(error: Exception) -> bool:
    return _sqlstate(error) in (_UNIQUE_VIOLATION, _EXCLUSION_VIOLATION)


def _sqlstate(error: Exception) -> str | None:
    return getattr(getattr(error, "orig", None), "sqlstate", None)
