"""A MariaDB or MySQL server for the tests, and a database on it for each."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pymysql
from sqlalchemy import URL, make_url

from . import PATIENCE_SECONDS, Server, given_server, program

_PLACES = ("usr/sbin", "usr/libexec", "opt/homebrew/opt/mariadb/bin")
# What is in here is gone after the tests, so it need not survive a loss of power.
_CARELESS = ("innodb-flush-log-at-trx-commit=0", "innodb-buffer-pool-size=32M", "max-connections=50")
# A query that lasts.
SLEEP = "SELECT SLEEP({seconds})"
_numbers = count(1)
_made: dict[Path, URL] = {}

# What other databases have and this one has not.
LACKS = frozenset[str]()


def url(folder: Path) -> str:
    """Return the URL of the database of the test that runs in `folder`; it is made on first use."""
    if folder not in _made:
        where = make_url(server())
        name = f"{where.database}_{next(_numbers)}"
        _execute(f"DROP DATABASE IF EXISTS `{name}`", f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        _made[folder] = where.set(database=name)
    return _made[folder].render_as_string(hide_password=False)


def settings(folder: Path) -> dict[str, str]:
    return {"DATABASE_URL": url(folder)}


def remove(folder: Path) -> None:
    """Remove the database of a test that is over."""
    if folder in _made:
        name = _made.pop(folder).database
        _execute(f"DROP DATABASE IF EXISTS `{name}`")


def _execute(*statements: str) -> None:
    with connect(make_url(server())) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def connect(url: URL) -> Any:
    # To get ready for encryption takes longer than all the rest, and a server of our own has none.
    return pymysql.connect(
        host=url.host, port=url.port or 3306, user=url.username, password=url.password or "", autocommit=True,
        connect_timeout=PATIENCE_SECONDS, read_timeout=PATIENCE_SECONDS, write_timeout=PATIENCE_SECONDS,
        ssl_disabled=not given_server(),
    )  # fmt: skip


@cache
def server() -> str:
    """Return the URL of a server and of a database on it whose name others start with."""
    if not given_server():
        return start()[1]
    atexit.register(lambda: [remove(folder) for folder in list(_made)])  # those of no single test
    return given_server()


def start(*options: str) -> tuple[Any, str]:
    """Start a server of our own; `options` are the server's, and have the last word."""
    here = Server("mysql")
    data = str(here.folder / "data")
    here.run(
        program("mariadb-install-db", "mariadb-server", _PLACES), "--no-defaults", "--skip-test-db",
        "--auth-root-authentication-method=normal", f"--datadir={data}",
    )  # fmt: skip
    own = [*_CARELESS, f"port={here.port}", "bind-address=127.0.0.1", f"socket={here.folder}/s", f"datadir={data}"]
    url = f"mysql://root@127.0.0.1:{here.port}/test"
    here.start(
        program("mariadbd", "mariadb-server", _PLACES), "--no-defaults", *(f"--{option}" for option in own), *options,
        ready=lambda: connect(make_url(url)).close(),
    )  # fmt: skip
    with connect(make_url(url)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE test CHARACTER SET utf8mb4")
    return here, url


@contextmanager
def filled(url: str) -> Iterator[None]:
    """Take every connection that the server has to give."""
    with ExitStack() as stack:
        with suppress(pymysql.OperationalError):
            while True:
                stack.enter_context(connect(make_url(url)))
        yield
