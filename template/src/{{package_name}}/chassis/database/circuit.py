"""A circuit breaker between the connection pool and a server that hangs.

A server that refuses connections does so within milliseconds. One that hangs, or is behind a network that drops
packets, would cost each request a full timeout, and a synchronous service all of its threads. Here one request waits
and the others fail fast with 503.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import InvalidatePoolError

from ..circuit_breaker import CircuitBreaker

# A server accepts or rejects a connection within milliseconds. A failure after this time means that it hangs.
_HANGS_AFTER_SECONDS = 0.5
# The time until the next trial.
_RECOVERY_SECONDS = 1.0
# Marks a connection that was just opened, which needs no test.
_IS_NEW = "is_new"

Guard = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Connector:
    """The functions and timeouts for connections to a database server.

    Attributes:
        connect: Opens a connection of the driver; a coroutine function if the driver is asynchronous.
        set_read_timeout: Changes the read timeout of an open connection of the driver, in seconds.
        connect_timeout_seconds: The time to open a connection, and to find out whether an idle one still works.
        read_timeout_seconds: The time for any response of the server after that.
        pre_ping: Whether to test idle connections before use.
    """

    connect: Callable[..., Any]
    set_read_timeout: Callable[[Any, float], None]
    connect_timeout_seconds: float
    read_timeout_seconds: float
    pre_ping: bool


def guarded_connect(engine: Engine, connector: Connector) -> Callable[..., Any]:
    """Return the connector's `connect` behind a circuit breaker, and test idle connections behind the same one."""
    breaker = CircuitBreaker("database", failure_threshold=1, recovery_seconds=_RECOVERY_SECONDS)

    def guard() -> AbstractContextManager[None]:
        began = time.monotonic()
        return breaker.guard(lambda _error: time.monotonic() - began > _HANGS_AFTER_SECONDS)

    if connector.pre_ping:
        _test_idle_connections(engine, connector, guard)

    def connect(*arguments: Any, **options: Any) -> Any:
        with guard():
            return connector.connect(*arguments, **options)

    async def connect_async(*arguments: Any, **options: Any) -> Any:
        with guard():
            return await connector.connect(*arguments, **options)

    return connect_async if engine.dialect.is_async else connect


def _test_idle_connections(engine: Engine, connector: Connector, guard: Guard) -> None:
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
        with guard():
            connector.set_read_timeout(driver_connection, connector.connect_timeout_seconds)
            try:
                dialect.do_ping(connection)
            except dialect.loaded_dbapi.Error as error:
                if dialect.is_disconnect(error, connection, None):
                    raise InvalidatePoolError from error
                raise
            connector.set_read_timeout(driver_connection, connector.read_timeout_seconds)
