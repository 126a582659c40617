"""Shared parts of database servers: a connection pool, and a timeout for everything."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr
from sqlalchemy import URL, Connection, create_engine

from . import Settings as DatabaseSettings

# The server ends a slow statement first, because it reports the reason. The client gives up after this extra time.
GRACE_SECONDS = 1.0
_SCRATCH_CONNECT_SECONDS = 5


class Settings(DatabaseSettings):
    """Database"""

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
    database_connect_timeout_seconds: int = Field(3, ge=2, description="Time to open a connection.")
    database_statement_timeout_seconds: float = Field(
        5.0, gt=0, description="Time limit of a statement; then it is cancelled and the request gets 503."
    )
    database_keepalive_idle_seconds: int = Field(
        30, ge=1, description="Idle time after which TCP probes whether the database is still reachable."
    )
    database_keepalive_interval_seconds: int = Field(10, ge=1, description="Time between two of these probes.")
    database_keepalive_count: int = Field(3, ge=1, description="Unanswered probes that make a connection dead.")


def pool_options(settings: Settings) -> dict[str, Any]:
    """Return the arguments of `create_engine` that are the same for every server."""
    return {
        "pool_size": settings.database_pool_size,
        "max_overflow": settings.database_pool_max_overflow,
        "pool_timeout": settings.database_pool_timeout_seconds,
        "pool_recycle": settings.database_pool_recycle_seconds,
    }


def prepare(_url: URL) -> None:
    """Do nothing: the operator of the server creates the database."""


def before_connect(_arguments: list[Any]) -> None:
    """Do nothing: the arguments need no change."""


def on_connect(_connection: Any) -> None:
    """Do nothing: the arguments of the connection configure it."""


@contextmanager
def scratch(url: URL, _folder: Path, options: Callable[[Connection], str] = lambda _connection: "") -> Iterator[URL]:
    """Create a database on the same server, with the `options` of this one, and drop it afterwards."""
    name = f"{url.database}_scratch_{secrets.token_hex(4)}"
    engine = create_engine(
        url, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": _SCRATCH_CONNECT_SECONDS}
    )
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


def read_timeout_seconds(settings: Settings) -> float:
    """Return how long the client waits for a response, because a server that hangs does not end statements itself."""
    return settings.database_statement_timeout_seconds + GRACE_SECONDS


def keep_alive(connection: socket.socket, settings: Settings) -> None:
    """Enable TCP keepalive, which detects an unreachable machine, for drivers that have no such option."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", settings.database_keepalive_idle_seconds),
        ("TCP_KEEPINTVL", settings.database_keepalive_interval_seconds),
        ("TCP_KEEPCNT", settings.database_keepalive_count),
    ):
        if hasattr(socket, option):  # not every operating system has all of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
