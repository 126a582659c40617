"""Leaves a server alone that lets its callers wait: one of them finds out whether it is back, the others go at once.

A server that refuses says so in no time, and needs none of this. One that is frozen, or behind a network that swallows
everything, would cost each request all of a time-out, and a synchronous service all of its threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Engine

from ..resilience.circuit_breaker import CircuitBreaker
from .dialect import Connector

# To open a connection, or to try one that is open, takes some milliseconds. What fails after this long was silence.
_SILENCE_SECONDS = 0.5
# How often it is tried again.
_RECOVERY_SECONDS = 1.0

Guard = Callable[[], AbstractContextManager[None]]


def guarded(engine: Engine, connector: Connector) -> Callable[..., Any]:
    """Return the connector's `connect` behind a circuit, behind which the engine tries its kept connections too."""
    breaker = CircuitBreaker("database", failure_threshold=1, recovery_seconds=_RECOVERY_SECONDS)

    def guard() -> AbstractContextManager[None]:
        began = time.monotonic()
        return breaker.guard(lambda _error: time.monotonic() - began > _SILENCE_SECONDS)

    engine.dialect.do_ping = _pinging(engine, connector, guard)  # type: ignore[assignment,method-assign]
    return _connecting(connector.connect, guard, engine.dialect.is_async)


def _connecting(connect: Callable[..., Any], guard: Guard, is_async: bool) -> Callable[..., Any]:
    def guarded_connect(*arguments: Any, **options: Any) -> Any:
        with guard():
            return connect(*arguments, **options)

    async def guarded_connect_async(*arguments: Any, **options: Any) -> Any:
        with guard():
            return await connect(*arguments, **options)

    return guarded_connect_async if is_async else guarded_connect


def _pinging(engine: Engine, connector: Connector, guard: Guard) -> Callable[[Any], bool]:
    """A kept connection is tried for no longer than a new one would take."""
    do_ping = engine.dialect.do_ping

    def ping(connection: Any) -> bool:
        drivers_own = engine.dialect.get_driver_connection(connection)
        with guard():
            connector.set_patience(drivers_own, connector.connect_seconds)
            answered: bool = do_ping(connection)
            connector.set_patience(drivers_own, connector.patience_seconds)
            return answered

    return ping
