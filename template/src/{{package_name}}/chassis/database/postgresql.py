"""PostgreSQL (https://www.postgresql.org/docs/) with psycopg 3, one driver for both kinds of handlers."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import psycopg
from psycopg import waiting
from psycopg.pq import Conninfo, TransactionStatus
from sqlalchemy import URL, Engine, event, text
from sqlalchemy import Connection as SqlConnection

from . import pool
from .backend import ReadOnlyError, connect_with, reconnect_after, wait_for_lock
from .disk_space import require_disk_space

# psycopg logs warnings for errors that it also raises.
logging.getLogger("psycopg").setLevel(logging.ERROR)

ASYNC_DRIVER = "postgresql+psycopg_async"
SYNC_DRIVER = "postgresql+psycopg"

measure = pool.measure

# Any number will do, as long as every release of this service uses the same one.
_MIGRATION_LOCK = 5_391_417
# Writes a temporary file of 300 KB to the disk of the database.
_SPACE_PROBE = ("SET LOCAL work_mem = '64kB'", "SELECT count(*) FROM generate_series(1, 20000)")
_DISK_FULL = "53100"
_UNIQUE_VIOLATION, _EXCLUSION_VIOLATION = "23505", "23P01"
# https://www.postgresql.org/docs/current/errcodes-appendix.html: whole classes first, then single codes.
_TRANSIENT_CLASSES = ("08", "53", "57")  # connection exception, insufficient resources, operator intervention
_READ_ONLY = "25006"  # for example a standby
_TRANSIENT = ("40001", "40P01", "55P03", _READ_ONLY)  # serialization, deadlock, lock not available

# Remedies for a wrong URL or user, by the text of the error, because errors of a connection have no code.
_REMEDIES = {
    "password authentication failed": "correct the user or the password",
    "no password supplied": "add the password",
    "unsupported startup parameter": "if this is PgBouncer, add pgbouncer=true to the parameters of the URL",
    "permission denied for schema public": "let the owner of the database run GRANT CREATE ON SCHEMA public TO user",
    "permission denied": "grant the user this privilege",
    "must be owner": "use the user that owns this object",
    "no schema has been selected": "correct search_path, or create the schema",
    "pg_hba.conf": "allow this connection in pg_hba.conf, or add sslmode=require to the parameters of the URL",
    "does not exist": "correct the name, or create what is missing",
    "no such": "correct the name, or create what is missing",
    "certificate": "correct sslmode or sslrootcert",
    "does not support SSL": "correct sslmode",
    "SSL required": "add sslmode=require to the parameters of the URL",
    "invalid": "correct it",
}
_PERMANENT = ("28", "3D", "3F", "42501")  # authorization, database, schema, privilege

# How often a waiting connection checks its timeout; psycopg does the same for Ctrl-C.
_INTERVAL_SECONDS = 0.1

T = TypeVar("T")


class Settings(pool.Settings):
    """PostgreSQL"""

    url_schemes: ClassVar = ("postgresql", "postgres")
    url_example: ClassVar = "postgresql://user:password@localhost:5432/name"
    # The parameters of libpq, except those with a setting, and `pgbouncer`, which only the service reads.
    url_parameters: ClassVar = (
        frozenset(option.keyword.decode() for option in Conninfo.get_defaults()) | {"pgbouncer"}
    ) - set(pool.Settings.url_settings)
    url_files: ClassVar = ("sslrootcert", "sslcert", "sslkey")
    url_remedies: ClassVar = {
        "schema": "add options=-csearch_path=NAME instead",
        **dict.fromkeys(("ssl", "ssl-mode", "ssl_mode", "sslaccept"), "add sslmode=require instead"),
        **dict.fromkeys(
            ("prepare_threshold", "prepared_statements", "prepared_statement_cache_size", "statement_cache_size"),
            "for PgBouncer, add pgbouncer=true instead",
        ),
    }

    @classmethod
    def parse_url(cls, text: str) -> URL:
        if re.search(r"@[^/?@]*:[^/?@]*,", text):
            form = "postgresql://user:password@/name?host=HOST:PORT&host=HOST:PORT"
            raise ValueError(f"has several hosts; use the form {form}")
        return super().parse_url(text)

    @classmethod
    def translate(cls, url: URL) -> URL:
        if url.query.get("pgbouncer", "true") not in ("true", "false"):
            raise ValueError("has an invalid value for pgbouncer; use true or false")
        if is_pooled(url):
            _parameters_of(url)
        return url


def _parameters_of(url: URL) -> dict[str, str]:
    """Return the server's parameters in `options`, such as `-c search_path=app`.

    Raises:
        ValueError: `options` has another form.
    """
    options = str(url.query.get("options", ""))
    words = [re.sub(r"\\(.)", r"\1", word) for word in re.findall(r"(?:\\.|\S)+", options)]
    pairs = re.findall(r"(?:^|\n)(?:-c\n?|--)([\w.]+)=([^\n]*)", "\n".join(words))
    if len(pairs) != len(words) - words.count("-c"):
        raise ValueError("has invalid options; use the form options=-csearch_path=NAME, with spaces as %20")
    return dict(pairs)


def engine_options(settings: Settings) -> dict[str, Any]:
    """Return the options. Without PgBouncer the connection request sets the timeouts, which saves a round trip."""
    url = settings.parse_url(settings.database_url.get_secret_value())
    limits = " ".join(f"-c {name}={value}" for name, value in _timeouts(settings).items())
    return pool.pool_options(settings) | {
        "connect_args": {
            "connect_timeout": settings.database_connect_timeout_seconds,
            "options": f"{url.query.get('options', '')} {limits}".strip(),
            "keepalives_idle": settings.database_keepalive_idle_seconds,
            "keepalives_interval": settings.database_keepalive_interval_seconds,
            "keepalives_count": settings.database_keepalive_count,
            # Limits how long sent data may stay unacknowledged, because the machine or the network is unreachable.
            "tcp_user_timeout": round(pool.read_timeout_seconds(settings) * 1000),
        }
    }


def _timeouts(settings: Settings) -> dict[str, str]:
    """Return the server's timeouts. An open transaction holds its locks even after its request has ended."""
    limit_ms = round(settings.database_statement_timeout_seconds * 1000)
    return {"statement_timeout": str(limit_ms), "idle_in_transaction_session_timeout": str(limit_ms * 6)}


def is_pooled(url: URL) -> bool:
    """Return whether the URL points to PgBouncer, whose connections to the server are shared by transactions."""
    return url.query.get("pgbouncer") == "true"


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


def set_up(engine: Engine, settings: Settings) -> None:
    """Connect behind a circuit breaker, and limit every wait for the server."""
    seconds = pool.read_timeout_seconds(settings)

    guarded = pool.guard(engine, settings, _set_read_timeout)

    def connect(*arguments: Any, **options: Any) -> Connection:
        with guarded():
            connection = Connection.connect(*arguments, **_for_driver(options))
        connection.read_timeout_seconds = seconds
        return connection

    async def connect_async(*arguments: Any, **options: Any) -> AsyncConnection:
        with guarded():
            connection = await AsyncConnection.connect(*arguments, **_for_driver(options))
        connection.read_timeout_seconds = seconds
        return connection

    connect_with(engine, connect_async if engine.dialect.is_async else connect)
    # After a failover, a new connection may reach the new primary.
    reconnect_after(engine, lambda error: getattr(error, "sqlstate", None) == _READ_ONLY)
    if is_pooled(engine.url):
        _configure_each_transaction(engine, _parameters_of(engine.url) | _timeouts(settings))


def _for_driver(options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the driver. PgBouncer rejects `options`, and loses prepared statements."""
    if options.pop("pgbouncer", "false") == "true":
        del options["options"]
        options["prepare_threshold"] = None
    return options


def _configure_each_transaction(engine: Engine, parameters: dict[str, str]) -> None:
    """Set the server's parameters for one transaction only, because the next may belong to another client."""
    statement = "SELECT " + ", ".join(["set_config(%s, %s, true)"] * len(parameters))
    values = tuple(chain.from_iterable(parameters.items()))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(statement, values))


def _set_read_timeout(connection: Any, seconds: float) -> None:
    connection.read_timeout_seconds = seconds


def scratch(url: URL, _folder: Path) -> AbstractContextManager[URL]:
    """Create a database on the same server."""
    return pool.scratch(url, psycopg.connect)


@contextmanager
def migration_lock(engine: Engine, timeout_seconds: float) -> Iterator[None]:
    """Take an advisory lock on a separate connection; the server releases it when that connection ends.

    In PgBouncer only an open transaction keeps a lock, and CREATE INDEX CONCURRENTLY would wait for its end.
    """
    pooled = is_pooled(engine.url)
    level, scope = ("READ COMMITTED", "_xact") if pooled else ("AUTOCOMMIT", "")
    with engine.connect().execution_options(isolation_level=level) as connection:
        if pooled:
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        try_lock = text(f"SELECT pg_try_advisory{scope}_lock(:key)").bindparams(key=_MIGRATION_LOCK)
        wait_for_lock(lambda: bool(connection.scalar(try_lock)), timeout_seconds)
        try:
            yield
        finally:
            if not pooled:
                connection.execute(text("SELECT pg_advisory_unlock(:key)").bindparams(key=_MIGRATION_LOCK))


def ping(connection: SqlConnection) -> None:
    """Raise an exception if the server does not accept writes, as a standby does, or a primary with a full disk."""
    if connection.scalar(text("SELECT current_setting('transaction_read_only')")) == "on":
        connection.invalidate()
        raise ReadOnlyError
    require_disk_space(connection, lambda error: getattr(error, "sqlstate", None) == _DISK_FULL, *_SPACE_PROBE)


def is_transient(error: Exception) -> bool:
    state = _sqlstate(error)
    if state is None:  # the server was not reached
        return isinstance(getattr(error, "orig", None), psycopg.OperationalError)
    return state.startswith(_TRANSIENT_CLASSES) or state in _TRANSIENT


def is_conflict(error: Exception) -> bool:
    return _sqlstate(error) in (_UNIQUE_VIOLATION, _EXCLUSION_VIOLATION)


def url_problem(error: Exception) -> str | None:
    """Return what is wrong with the URL or its user; errors in other languages are not recognised."""
    state, cause = _sqlstate(error), getattr(error, "orig", None)
    if not isinstance(cause, psycopg.Error) or (state and not state.startswith(_PERMANENT)):
        return None
    reason = cause.diag.message_primary or " ".join(str(cause).rpartition("FATAL: ")[2].split())
    remedy = next((remedy for text, remedy in _REMEDIES.items() if text in reason), None)
    return f"{reason}; {remedy}" if remedy else None


def _sqlstate(error: Exception) -> str | None:
    return getattr(getattr(error, "orig", None), "sqlstate", None)
