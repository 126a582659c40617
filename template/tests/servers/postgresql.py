"""A PostgreSQL server for the tests, and a database on it for each."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, make_url

from . import PATIENCE_SECONDS, Server, given_server, program

_PLACES = ("usr/lib/postgresql/*/bin", "opt/homebrew/opt/postgresql*/bin")
# What is in here is gone after the tests, so it need not survive a loss of power.
_CARELESS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=50")
# A query that lasts.
SLEEP = "SELECT pg_sleep({seconds})"
# No table, type, schema or function was made in this database, and nobody else is connected to it. Objects of one's own
# are numbered from 16384 on (PostgreSQL's FirstNormalObjectId).
_AS_NEW = """
    SELECT NOT EXISTS (SELECT FROM pg_class WHERE oid >= 16384) AND NOT EXISTS (SELECT FROM pg_type WHERE oid >= 16384)
    AND NOT EXISTS (SELECT FROM pg_namespace WHERE oid >= 16384) AND NOT EXISTS (SELECT FROM pg_proc WHERE oid >= 16384)
    AND NOT EXISTS (
        SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    )
"""
_numbers = count(1)
_made: dict[Path, URL] = {}
# To make one takes a tenth of a second, and most tests never use theirs.
_as_new: list[URL] = []

# What other databases have and this one has not.
LACKS = frozenset[str]()


def url(folder: Path) -> str:
    """Return the URL of the database of the test that runs in `folder`: one that is as new, or a new one."""
    if folder not in _made:
        _made[folder] = _as_new.pop() if _as_new else _make()
    return _made[folder].render_as_string(hide_password=False)


def _make() -> URL:
    where = make_url(server())
    name = f"{where.database}_{next(_numbers)}"
    _execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', f'CREATE DATABASE "{name}"')
    return where.set(database=name)


def settings(folder: Path) -> dict[str, str]:
    return {"DATABASE_URL": url(folder)}


def remove(folder: Path) -> None:
    """Remove the database of a test that is over; the next one takes it when it is as new."""
    if folder in _made:
        used = _made.pop(folder)
        if _is_as_new(used):
            _as_new.append(used)
        else:
            _drop(used)


def _is_as_new(used: URL) -> bool:
    where = used.render_as_string(hide_password=False)
    try:
        with psycopg.connect(where, autocommit=True, connect_timeout=PATIENCE_SECONDS) as connection:
            return connection.execute(_AS_NEW).fetchone() == (True,)
    except psycopg.OperationalError:  # the test has dropped it
        return False


def _drop(used: URL) -> None:
    _execute(f'DROP DATABASE IF EXISTS "{used.database}" WITH (FORCE)')


def _execute(*statements: str) -> None:
    with psycopg.connect(server(), autocommit=True, connect_timeout=PATIENCE_SECONDS) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@cache
def server() -> str:
    """Return the URL of a server and of a database on it whose name others start with."""
    if not given_server():
        return start()[1]
    atexit.register(lambda: [_drop(used) for used in (*_made.values(), *_as_new)])  # those of no single test
    return given_server()


def start(*options: str) -> tuple[Any, str]:
    """Start a server of our own; `options` are the server's, and have the last word."""
    here = Server("postgresql")
    data = str(here.folder / "data")
    here.run(
        program("initdb", "postgresql", _PLACES), "--no-sync", "--auth=trust", "--username=test", "--encoding=UTF8",
        "--locale=C", "-D", data,
    )  # fmt: skip
    own = [f"--{option}" for option in (*_CARELESS, f"port={here.port}", "listen_addresses=127.0.0.1")]
    maintenance = f"postgresql://test@127.0.0.1:{here.port}/postgres"
    here.start(
        program("postgres", "postgresql", _PLACES), "-D", data, "--unix_socket_directories=", *own, *options,
        ready=lambda: psycopg.connect(maintenance, connect_timeout=PATIENCE_SECONDS).close(),
    )  # fmt: skip
    with psycopg.connect(maintenance, autocommit=True, connect_timeout=PATIENCE_SECONDS) as connection:
        connection.execute("CREATE DATABASE test")
    return here, f"postgresql://test@127.0.0.1:{here.port}/test"


@contextmanager
def filled(url: str) -> Iterator[None]:
    """Take every connection that the server has to give."""
    with ExitStack() as stack:
        with suppress(psycopg.OperationalError):
            while True:
                stack.enter_context(psycopg.connect(url, connect_timeout=PATIENCE_SECONDS))
        yield
