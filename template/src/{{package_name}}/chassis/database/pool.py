"""What the databases that are servers have in common: a pool of connections, and how long anything may take."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr
from sqlalchemy import URL, Connection, create_engine, text

from . import Settings as DatabaseSettings

# The server is asked to end a statement first, because it says what happened. This much later the client gives up.
GRACE_SECONDS = 1.0
_SCRATCH_CONNECT_SECONDS = 5


class Settings(DatabaseSettings):
    """Database"""

    database_url: SecretStr = Field(description="Where the data is, with user and password, as an SQLAlchemy URL.")
    database_pool_size: int = Field(10, ge=1, description="How many connections are kept open.")
    database_pool_max_overflow: int = Field(5, ge=0, description="How many more are opened at a peak.")
    database_pool_timeout_seconds: float = Field(
        5.0, gt=0, description="How long a request waits for a free connection; then it gets 503."
    )
    database_pool_recycle_seconds: int = Field(
        1800, ge=1, description="Age at which a connection is replaced; less than what a firewall allows an idle one."
    )
    database_pool_pre_ping: bool = Field(
        True, description="Try each connection before it is used, so that a restarted database costs no request."
    )
    database_connect_timeout_seconds: int = Field(3, ge=2, description="How long opening a connection may take.")
    database_statement_timeout_seconds: float = Field(
        5.0, gt=0, description="How long a statement may take; then it is ended and the request gets 503."
    )
    database_keepalive_idle_seconds: int = Field(
        30, ge=1, description="Silence after which TCP asks whether the database is still there."
    )
    database_keepalive_interval_seconds: int = Field(10, ge=1, description="Pause between two such questions.")
    database_keepalive_count: int = Field(3, ge=1, description="Unanswered questions after which it is taken for gone.")


def pool_options(settings: Any) -> dict[str, Any]:
    """Return the options of `create_engine` that are the same for every driver."""
    return {
        "pool_size": settings.database_pool_size,
        "max_overflow": settings.database_pool_max_overflow,
        "pool_timeout": settings.database_pool_timeout_seconds,
        "pool_recycle": settings.database_pool_recycle_seconds,
        "pool_pre_ping": settings.database_pool_pre_ping,
    }


def prepare(_url: URL) -> None:
    """The database is made by whoever runs the server."""


def before_connect(_arguments: list[Any]) -> None:
    """The server is opened as it is called."""


def on_connect(_connection: Any) -> None:
    """Everything was said when the connection was opened."""


def ask_service(_settings: Any) -> None:
    """The database lets other processes in."""


def ping(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))


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


def patience_seconds(settings: Any) -> float:
    """Return how long the client waits for an answer: a server that is frozen ends no statement by itself."""
    patience: float = settings.database_statement_timeout_seconds + GRACE_SECONDS
    return patience


def keep_alive(connection: socket.socket, settings: Any) -> None:
    """Have TCP find out that the other machine is gone, for drivers that cannot be told."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", settings.database_keepalive_idle_seconds),
        ("TCP_KEEPINTVL", settings.database_keepalive_interval_seconds),
        ("TCP_KEEPCNT", settings.database_keepalive_count),
    ):
        if hasattr(socket, option):  # not every system has them all
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
