"""A MariaDB or MySQL server for the tests, with one database for each test."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pymysql
import pytest
from sqlalchemy import URL, make_url

from . import PATIENCE_SECONDS, Server, find, given_server, program, small_disk

_PLACES = ("usr/sbin", "usr/libexec", "opt/homebrew/opt/mariadb/bin")
# The data is deleted after the tests, so it need not survive a power failure.
_CARELESS = ("innodb-flush-log-at-trx-commit=0", "innodb-buffer-pool-size=32M", "max-connections=50")
# A query that takes a given time. In the list of columns, MySQL's SLEEP hides an interruption.
SLEEP = "SELECT 1 FROM DUAL WHERE SLEEP({seconds})"
_numbers = count(1)
_made: dict[Path, URL] = {}

# Features of other databases that this database lacks.
LACKS = frozenset[str]()
# MySQL runs the tests only if MariaDB, which has a program of the same name, is not installed.
IS_MYSQL = bool(find("mysqld", _PLACES) and not find("mariadbd", _PLACES))
# The program that makes its backups, if there is one.
DUMP_TOOL = "mysqldump" if IS_MYSQL else "mariadb-dump"


def url(folder: Path) -> str:
    """Return the URL of the database of the test that runs in `folder`; the database is created on first use."""
    if folder not in _made:
        where = make_url(server())
        name = f"{where.database}_{next(_numbers)}"
        _execute(f"DROP DATABASE IF EXISTS `{name}`", f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        _made[folder] = where.set(database=name)
    return _made[folder].render_as_string(hide_password=False)


def settings(folder: Path) -> dict[str, str]:
    return {"DATABASE_URL": url(folder)}


def remove(folder: Path) -> None:
    """Remove the database of a test that has ended."""
    if folder in _made:
        name = _made.pop(folder).database
        _execute(f"DROP DATABASE IF EXISTS `{name}`")


def _execute(*statements: str) -> None:
    with connect(make_url(server())) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def create_user(name: str, password: str, *, reads: str = "") -> None:
    """Create a user with all privileges, or one that may only read the database `reads`."""
    with connect(make_url(server())) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", (name, password))
        granted = f"SELECT ON `{reads}`.* TO %s@'%%'" if reads else "ALL ON *.* TO %s@'%%' WITH GRANT OPTION"
        cursor.execute(f"GRANT {granted}", (name,))


def drop_user(name: str) -> None:
    with connect(make_url(server())) as connection, connection.cursor() as cursor:
        cursor.execute("DROP USER IF EXISTS %s@'%%'", (name,))


def connect(url: URL) -> Any:
    # Preparing encryption takes longer than everything else, and the private server does not use it.
    return pymysql.connect(
        host=url.host, port=url.port or 3306, user=url.username, password=url.password or "", autocommit=True,
        connect_timeout=PATIENCE_SECONDS, read_timeout=PATIENCE_SECONDS, write_timeout=PATIENCE_SECONDS,
        ssl_disabled=not given_server(),
    )  # fmt: skip


@cache
def server() -> str:
    """Return the URL of the shared server. The names of the tests' databases start with that of its database."""
    if not given_server():
        return start()[1]
    atexit.register(lambda: [remove(folder) for folder in list(_made)])  # the databases that no single test has made
    return given_server()


def start(*options: str, tls: bool = False) -> tuple[Any, str]:
    """Start a private server; `options` are passed to it last and override the others.

    With `tls` it has a certificate, `server.pem` in its folder, of the certificate authority `ca.pem`.
    """
    here = Server("mysql")
    data = str(here.folder / "data")
    if IS_MYSQL:
        here.run(
            program("mysqld", "mysql-server", _PLACES), "--no-defaults", "--initialize-insecure", f"--datadir={data}"
        )
    else:
        here.run(
            program("mariadb-install-db", "mariadb-server", _PLACES), "--no-defaults", "--skip-test-db",
            "--auth-root-authentication-method=normal", f"--datadir={data}", f"--tmpdir={here.folder}",
        )  # fmt: skip
    own = [*_CARELESS, f"port={here.port}", "bind-address=127.0.0.1", f"socket={here.folder}/s", f"datadir={data}"]
    # A server that starts deletes the temporary tables of others in its folder.
    own.append(f"tmpdir={here.folder}")
    if tls:
        _certify(here, "ca")
        _certify(here, "server", "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1")
        files = {"ca": "ca.pem", "cert": "server.pem", "key": "server.key"}
        own += [f"ssl-{name}={here.folder}/{file}" for name, file in files.items()]
    elif not IS_MYSQL:
        own.append("skip-ssl")  # MariaDB 11.4 and newer create a certificate at the start
    url = f"mysql://root@127.0.0.1:{here.port}/test"
    here.start(
        program("mysqld" if IS_MYSQL else "mariadbd", "mariadb-server", _PLACES), "--no-defaults",
        *(f"--{option}" for option in own), *options,
        ready=lambda: connect(make_url(url)).close(),
    )  # fmt: skip
    with connect(make_url(url)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE test CHARACTER SET utf8mb4")
    return here, url


def _certify(here: Server, name: str, *options: str) -> None:
    here.run(
        program("openssl", "openssl", ()), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem", *options,
    )  # fmt: skip


@contextmanager
def on_small_disk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Provide the URL of a database on a small disk, and the folder of that disk."""
    if given_server():
        pytest.skip("the disk of a server that was given is not for tests")
    where = make_url(url(folder))
    with connect(where) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@datadir")
        disk = Path(cursor.fetchone()[0]) / str(where.database)
    with small_disk(disk, 16):
        yield where.render_as_string(hide_password=False), disk


@contextmanager
def filled(url: str) -> Iterator[None]:
    """Use up all connections of the server."""
    with ExitStack() as stack:
        with suppress(pymysql.OperationalError):
            while True:
                stack.enter_context(connect(make_url(url)))
        yield
