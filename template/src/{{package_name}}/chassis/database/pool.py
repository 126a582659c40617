"""Shared parts of database servers: URL, connection pool, a timeout for everything, and a circuit breaker.

A server that refuses connections does so within milliseconds. One that hangs, or is behind a network that drops
packets, would cost each request a full timeout, and a synchronous service all of its threads. Here one request waits
and the others fail fast with 503.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from pydantic import Field, SecretStr
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import InvalidatePoolError

from ..circuit_breaker import CircuitBreaker
from ..instrumentation import Measurement
from ..settings import variable
from . import Settings as DatabaseSettings
from .backend import connect_with

# The server ends a slow statement first, so that it can report the reason. The client waits this much longer.
_GRACE_SECONDS = 1.0
_SCRATCH_CONNECT_SECONDS = 5
# A server accepts or rejects a connection within milliseconds. A failure after this time means that it hangs.
_HANGS_AFTER_SECONDS = 0.5
# The time until the next trial.
_RECOVERY_SECONDS = 1.0
# Marks a connection that was just opened, which needs no test.
_IS_NEW = "is_new"

Guard = Callable[[], AbstractContextManager[None]]

_breakers: WeakKeyDictionary[Engine, CircuitBreaker] = WeakKeyDictionary()


class Settings(DatabaseSettings):
    """Database"""

    url_hint: ClassVar = "; write each of @ : / ? # % and spaces in the password as % with two hex digits, @ as %40"
    # The URL parameters (after `?`) that the service accepts, and those of them that name a file. For rejected
    # parameters that providers use: what to write instead, and which setting to use.
    url_parameters: ClassVar[frozenset[str]]
    url_files: ClassVar[tuple[str, ...]]
    url_remedies: ClassVar[Mapping[str, str]]
    url_settings: ClassVar[Mapping[str, str]] = {
        "connect_timeout": "database_connect_timeout_seconds",
        "keepalives_count": "database_keepalive_count",
        "keepalives_idle": "database_keepalive_idle_seconds",
        "keepalives_interval": "database_keepalive_interval_seconds",
        **dict.fromkeys(("connection_limit", "pool_size"), "database_pool_size"),
        "pool_timeout": "database_pool_timeout_seconds",
        **dict.fromkeys(
            ("read_timeout", "socket_timeout", "statement_timeout", "tcp_user_timeout", "write_timeout"),
            "database_statement_timeout_seconds",
        ),
    }

    database_url: SecretStr = Field(description="SQLAlchemy URL of the database, with user and password.")
    database_pool_size: int = Field(10, ge=1, description="Connections to keep open.")
    database_pool_max_overflow: int = Field(5, ge=0, description="Additional connections at peak load.")
    database_pool_timeout_seconds: float = Field(
        5.0, gt=0, description="Time that a request waits for a free connection before it gets 503."
    )
    database_pool_recycle_seconds: int = Field(
        1800, ge=1, description="Age at which a connection is replaced; set it below the idle timeout of any firewall."
    )
    database_pool_pre_ping: bool = Field(
        True, description="Test each idle connection before use, so that no request fails after a database restart."
    )
    database_connect_timeout_seconds: int = Field(3, ge=2, description="Time limit for opening a connection.")
    database_statement_timeout_seconds: float = Field(
        5.0, gt=0, description="Time limit of a statement; then it is cancelled and the request gets 503."
    )
    database_keepalive_idle_seconds: int = Field(
        30, ge=1, description="Idle time after which TCP probes whether the database is still reachable."
    )
    database_keepalive_interval_seconds: int = Field(10, ge=1, description="Time between two of these probes.")
    database_keepalive_count: int = Field(3, ge=1, description="Unanswered probes after which a connection is closed.")

    @classmethod
    def parse_url(cls, text: str) -> URL:
        url = super().parse_url(text)
        # More than one @, or a % without two digits: the parser would read a part of the password as something else.
        is_ambiguous = text.partition("?")[0].count("@") > 1 or "@" in f"{url.host}{url.database}"
        is_invalid = not 0 <= (url.port or 0) < 65_536 or re.search(r"%(?![0-9A-Fa-f]{2})|^\s|\s$", text)
        if is_ambiguous or is_invalid:
            raise cls.invalid_url()
        url = cls.translate(url)
        unknown = sorted(set(url.query) - cls.url_parameters)
        if unknown and text.count("@") > 1:
            raise cls.invalid_url()
        if not url.database:
            raise ValueError(f"names no database; use the form {cls.url_example}")
        if unknown:
            remedies = {name: f"set {variable(setting)} instead" for name, setting in cls.url_settings.items()}
            remedies |= cls.url_remedies
            named = (f"{name} ({remedies.get(name, 'correct or remove it')})" for name in unknown)
            raise ValueError(f"has unknown parameters: {', '.join(named)}")
        for name in cls.url_files:
            path = str(url.query.get(name, "system"))
            if path != "system" and not (Path(path).is_file() and os.access(path, os.R_OK)):
                raise ValueError(f"has {name}={path}, which is not a readable file")
        return url

    @classmethod
    def translate(cls, url: URL) -> URL:
        """Return the URL with the driver's own names of parameters.

        Raises:
            ValueError: A parameter has an invalid value; the message names it.
        """
        return url


def pool_options(settings: Settings) -> dict[str, Any]:
    """Return the arguments of `create_engine` that are the same for every server."""
    return {
        "pool_size": settings.database_pool_size,
        "max_overflow": settings.database_pool_max_overflow,
        "pool_timeout": settings.database_pool_timeout_seconds,
        "pool_recycle": settings.database_pool_recycle_seconds,
    }


def read_timeout_seconds(settings: Settings) -> float:
    """Return how long the client waits for a response, because a server that hangs does not end statements itself."""
    return settings.database_statement_timeout_seconds + _GRACE_SECONDS


@contextmanager
def scratch(
    url: URL, connect: Callable[..., Any], options: Callable[[Connection], str] = lambda _connection: ""
) -> Iterator[URL]:
    """Create a database on the same server, with the `options` of this one, and drop it afterwards."""
    name = f"{url.database}_scratch_{secrets.token_hex(4)}"
    engine = create_engine(
        url, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": _SCRATCH_CONNECT_SECONDS}
    )
    connect_with(engine, connect)
    quoted = engine.dialect.identifier_preparer.quote(name)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {quoted}{options(connection)}")
            try:
                yield url.set(database=name)
            finally:
                connection.exec_driver_sql(f"DROP DATABASE {quoted}")
    finally:
        engine.dispose()


def guard(engine: Engine, settings: Settings, set_read_timeout: Callable[[Any, float], None]) -> Guard:
    """Return the circuit breaker that guards the opening of connections and the tests of idle connections.

    `set_read_timeout` changes the read timeout of an open connection of the driver, in seconds.
    """
    breaker = _breakers[engine] = CircuitBreaker("database", failure_threshold=1, recovery_seconds=_RECOVERY_SECONDS)

    def guarded() -> AbstractContextManager[None]:
        began = time.monotonic()
        return breaker.guard(lambda _error: time.monotonic() - began > _HANGS_AFTER_SECONDS)

    if settings.database_pool_pre_ping:
        _test_idle_connections(engine, settings, set_read_timeout, guarded)
    return guarded


def measure(engine: Engine) -> Iterator[Measurement]:
    """Return the state of the circuit breaker."""
    return _breakers[engine].measure()


def _test_idle_connections(
    engine: Engine, settings: Settings, set_read_timeout: Callable[[Any, float], None], guarded: Guard
) -> None:
    """Ping an idle connection before use, as `pool_pre_ping` does, but wait no longer than for a new connection."""
    dialect = engine.dialect

    @event.listens_for(engine, "connect")
    def _(_connection: Any, record: Any) -> None:
        record.info[_IS_NEW] = True

    @event.listens_for(engine, "checkout")
    def _(connection: Any, record: Any, _fairy: Any) -> None:
        if record.info.pop(_IS_NEW, False):
            return
        driver_connection = record.driver_connection
        with guarded():
            set_read_timeout(driver_connection, settings.database_connect_timeout_seconds)
            try:
                dialect.do_ping(connection)
            except dialect.loaded_dbapi.Error as error:
                if dialect.is_disconnect(error, connection, None):
                    raise InvalidatePoolError from error
                raise
            set_read_timeout(driver_connection, read_timeout_seconds(settings))
