"""A PostgreSQL server for the tests, with one database for each test."""

from __future__ import annotations

import atexit
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, make_url

from . import PATIENCE_SECONDS, Server, given_server, program, small_disk

_PLACES = ("usr/lib/postgresql/*/bin", "opt/homebrew/opt/postgresql*/bin")
# The data is deleted after the tests, so it need not survive a power failure.
_CARELESS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=50")
# A query that takes a given time.
SLEEP = "SELECT pg_sleep({seconds})"
# True if no table, type, schema or function was created in this database, and no other client is connected to it. The
# ids of objects that users create begin at 16384 (PostgreSQL's FirstNormalObjectId).
_AS_NEW = """
    SELECT NOT EXISTS (SELECT FROM pg_class WHERE oid >= 16384) AND NOT EXISTS (SELECT FROM pg_type WHERE oid >= 16384)
    AND NOT EXISTS (SELECT FROM pg_namespace WHERE oid >= 16384) AND NOT EXISTS (SELECT FROM pg_proc WHERE oid >= 16384)
    AND NOT EXISTS (
        SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    )
"""
_numbers = count(1)
_made: dict[Path, URL] = {}
# Databases to reuse: creating one takes a tenth of a second, and most tests never use theirs.
_as_new: list[URL] = []

# Features of other databases that this database lacks.
LACKS = frozenset[str]()
# The program that makes its backups, if there is one.
DUMP_TOOL = "pg_dump"


def url(folder: Path) -> str:
    """Return the URL of the database of the test that runs in `folder`: an unused one, or a new one."""
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
    """Remove the database of a test that has ended, or let the next test reuse it if it is unchanged."""
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


def create_user(name: str, password: str, *, reads: str = "") -> None:
    """Create a user with all privileges, or one that may only read the database `reads`."""
    quoted = sql.Literal(password).as_string()
    _execute(f'CREATE ROLE "{name}" {"" if reads else "SUPERUSER"} LOGIN PASSWORD {quoted}')
    if reads:
        where = make_url(server()).set(database=reads).render_as_string(hide_password=False)
        with psycopg.connect(where, autocommit=True, connect_timeout=PATIENCE_SECONDS) as connection:
            connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # the default since PostgreSQL 15


def drop_user(name: str) -> None:
    _execute(f'DROP ROLE IF EXISTS "{name}"')


@cache
def server() -> str:
    """Return the URL of the shared server. The names of the tests' databases start with that of its database."""
    if not given_server():
        return start()[1]
    atexit.register(lambda: [_drop(used) for used in (*_made.values(), *_as_new)])  # if no test has removed it
    return given_server()


def start(*options: str) -> tuple[Any, str]:
    """Start a private server; `options` are passed to it last and override the others."""
    here = Server("postgresql")
    data = str(here.folder / "data")
    here.run(
        program("initdb", "postgresql", _PLACES), "--no-sync", "--auth=trust", "--username=test", "--encoding=UTF8",
        "--locale=C", "-D", data,
    )  # fmt: skip
    # The tests' own user needs no password, unlike those that a test creates.
    Path(data, "pg_hba.conf").write_text("host all test all trust\nhost all all all scram-sha-256\n")
    own = [f"--{option}" for option in (*_CARELESS, f"port={here.port}", "listen_addresses=127.0.0.1")]
    maintenance = f"postgresql://test@127.0.0.1:{here.port}/postgres"
    here.start(
        program("postgres", "postgresql", _PLACES), "-D", data, "--unix_socket_directories=", *own, *options,
        ready=lambda: psycopg.connect(maintenance, connect_timeout=PATIENCE_SECONDS).close(),
    )  # fmt: skip
    with psycopg.connect(maintenance, autocommit=True, connect_timeout=PATIENCE_SECONDS) as connection:
        connection.execute("CREATE DATABASE test")
    return here, f"postgresql://test@127.0.0.1:{here.port}/test"


def make_standby(here: Server) -> None:
    """Restart a private server as a hot standby, which only answers queries until `SELECT pg_promote()`."""
    assert here.process
    here.process.send_signal(signal.SIGINT)  # unlike after `stop`, the server writes everything to the disk first
    here.process.wait(PATIENCE_SECONDS)
    (here.folder / "data" / "standby.signal").touch()
    here.bring_back()


@contextmanager
def on_small_disk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Provide the URL of a database on a small disk, and the folder of that disk."""
    if given_server():
        pytest.skip("the disk of a server that was given is not for tests")
    where = make_url(server())
    with psycopg.connect(server()) as connection:
        data = connection.execute("SHOW data_directory").fetchone()
    assert data
    disk = Path(data[0]).with_name("disk")
    disk.mkdir()
    shutil.chown(disk, Path(data[0]).owner())
    with small_disk(disk, 16):
        _execute(f"CREATE TABLESPACE small LOCATION '{disk}'", "CREATE DATABASE small TABLESPACE small")
        try:
            yield where.set(database="small").render_as_string(hide_password=False), disk
        finally:
            _execute("DROP DATABASE small WITH (FORCE)", "DROP TABLESPACE small")


@contextmanager
def filled(url: str) -> Iterator[None]:
    """Use up all connections of the server."""
    with ExitStack() as stack:
        with suppress(psycopg.OperationalError):
            while True:
                stack.enter_context(psycopg.connect(url, connect_timeout=PATIENCE_SECONDS))
        yield


@contextmanager
def pgbouncer() -> Iterator[Callable[[str], str]]:
    """Start PgBouncer in transaction mode with its defaults, and yield a function that routes a URL through it."""
    if given_server():
        pytest.skip("a server that was given may need a password, which PgBouncer does not have")
    here = Server("pgbouncer", signal.SIGTERM)
    (here.folder / "users").write_text('"test" ""\n')
    (here.folder / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={make_url(server()).port}\n[pgbouncer]\npool_mode = transaction\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {here.port}\nunix_socket_dir =\n"
        f"auth_type = trust\nauth_file = {here.folder}/users\n"
    )

    def through(url: str) -> str:
        return make_url(url).set(port=here.port).render_as_string(hide_password=False)

    try:
        here.start(
            program("pgbouncer", "pgbouncer", ("usr/sbin", "opt/homebrew/bin")), str(here.folder / "ini"),
            ready=lambda: psycopg.connect(through(server()), connect_timeout=PATIENCE_SECONDS).close(),
        )  # fmt: skip
        yield through
    finally:
        here.remove()
