"""MySQL and MariaDB: a read-only server, what a URL can specify, and the private names of the drivers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import DBAPIError

from .. import servers
from ..package import CHASSIS, PACKAGE, ROOT, module, program
from ..servers import GIVEN_URL
from ..servers import mysql as server
from .conftest import Start
from .process import until
from .sql import backend, engine, run
from .sql_server import TABLE
from .test_errors import assert_is_problem
from .unit_of_work import Database, in_request

IS_ASYNC = find_spec(f"{PACKAGE}.chassis.database.asyncio") is not None


def is_kept_alive(connection: socket.socket) -> bool:
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_pymysql_has_the_private_names_that_the_backend_uses() -> None:
    """`_sock` configures TCP keepalive, and `_read_timeout` limits each wait for the server."""
    with engine() as opened, opened.connect() as connection:
        driver_connection: Any = connection.connection.driver_connection
        assert is_kept_alive(driver_connection._sock)
        backend._set_read_timeout(driver_connection, 7)
        connection.exec_driver_sql("SELECT 1")
        assert driver_connection._sock.gettimeout() == 7


@pytest.mark.skipif(not IS_ASYNC, reason="synchronous services use PyMySQL only")
def test_aiomysql_has_the_private_names_that_the_backend_uses(start: Start) -> None:
    """`_writer` gives access to the socket. The backend replaces `_reader` with one that limits each wait."""
    chassis: list[Any] = []
    start(install=chassis.append, started=False)

    async def check() -> None:
        database = chassis[0].get(Database)
        async with database.engine.connect() as connection:
            driver_connection: Any = (await connection.get_raw_connection()).driver_connection
            assert is_kept_alive(driver_connection._writer.transport.get_extra_info("socket"))
            backend._set_read_timeout(driver_connection, 0.01)
            with pytest.raises(DBAPIError, match="Lost connection"):
                await connection.execute(text("SELECT SLEEP(1)"))
        await database.engine.dispose()

    asyncio.run(check())


def test_read_only_server_makes_the_service_unready(start: Start) -> None:
    """A replica answers queries but rejects writes."""
    here, url = server.start()
    try:
        client = start(database_url=url, health_check_cache_seconds=0.01)
        assert client.get("/health/ready").status_code == 200
        with server.connect(make_url(url)) as connection, connection.cursor() as cursor:
            cursor.execute("SET GLOBAL read_only = 1")
            until(lambda: client.get("/health/ready").status_code == 503)
            check = client.get("/health").json()["checks"]["database"]
            assert check["error"] == "the database is read-only"
            cursor.execute("SET GLOBAL read_only = 0")
            until(lambda: client.get("/health/ready").status_code == 200)
    finally:
        here.remove()


def test_connection_to_a_server_that_became_read_only_is_replaced(start: Start) -> None:
    """After a failover, a new connection may reach the new primary.

    A service that is not ready gets no requests, so the ping of its health check replaces the connection as well.
    """
    chassis: list[Any] = []
    behaviours = {
        "number": lambda: in_request(chassis[0], "SELECT CONNECTION_ID()"),
        "write": lambda: in_request(chassis[0], "INSERT INTO written (number) VALUES (1)"),
    }
    here, url = server.start()
    try:
        run(TABLE, database_url=url)()
        with server.connect(make_url(url)) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE USER writer@'%'")
            cursor.execute("GRANT SELECT, INSERT ON *.* TO writer@'%'")
            there = make_url(url).set(username="writer").render_as_string()
            client = start(behaviours, install=chassis.append, database_url=there, health_check_cache_seconds=0.01)
            numbers = [client.get("/api/here/number").text]
            cursor.execute("SET GLOBAL read_only = 1")
            assert_is_problem(client.get("/api/here/write"), 503, "UNAVAILABLE")
            numbers.append(client.get("/api/here/number").text)
            until(lambda: client.get("/health/ready").status_code == 503)
            numbers.append(client.get("/api/here/number").text)
        assert len(set(numbers)) == 3
    finally:
        here.remove()


def test_full_disk_of_a_user_who_may_not_create_tables_is_reported_until_there_is_space(
    start: Start, folder: Path
) -> None:
    """Such a user cannot test for space, so the next write that fails reports the full disk again."""
    chassis: list[Any] = []
    with server.on_small_disk(folder) as (url, disk):
        run("CREATE TABLE filled (words VARCHAR(4000))", database_url=url)()
        with server.connect(make_url(url)) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE USER writer@'%'")
            cursor.execute("GRANT SELECT, INSERT ON *.* TO writer@'%'")
        try:
            there = make_url(url).set(username="writer").render_as_string()
            write = {"write": lambda: in_request(chassis[0], f"INSERT INTO filled VALUES ('{token_hex(1500)}')")}
            client = start(write, install=chassis.append, database_url=there, health_check_cache_seconds=0.01)
            filler = servers.fill(disk)

            def is_reported() -> bool:
                is_rejected = client.get("/api/here/write").status_code == 503
                found = client.get("/health").json()["checks"]["database"]
                return is_rejected and found.get("error") == "the disk of the database is full"

            for _ in range(3):
                until(is_reported)
            filler.unlink()
            until(lambda: client.get("/health/ready").status_code == 200)
        finally:
            server.drop_user("writer")


# -- what a URL can say, the same for both drivers ---------------------------------------------------------------------

ENCRYPTED = [
    "ssl-mode=REQUIRED",
    "ssl_mode=required",
    "sslmode=require",
    "ssl=true",
    "sslaccept=accept_invalid_certs",
    "ssl_ca={here}/ca.pem",
    "ssl-ca={here}/ca.pem",
    "ssl-mode=VERIFY_CA&ssl-ca={here}/ca.pem",
    "ssl-mode=VERIFY_IDENTITY&ssl-ca={here}/ca.pem",
    "ssl_ca={here}/ca.pem&ssl_verify_cert=true&ssl_verify_identity=true",
    "ssl_ca={here}/ca.pem&ssl_check_hostname=false",
    "ssl_ca={here}/ca.pem&ssl_cert={here}/server.pem&ssl_key={here}/server.key",
    "ssl_capath={here}&ssl_check_hostname=false&ssl_cipher=HIGH&ssl-mode=REQUIRED&ssl_ca={here}/ca.pem",
]
PLAIN = [
    "ssl-mode=DISABLED",
    "ssl_disabled=true",
    "ssl=false",
    "sslmode=disable&ssl_ca={here}/ca.pem",
    "charset=utf8mb4&ssl=false&program_name=orders&local_infile=0",
    "unix_socket={here}/s&ssl=false",
]
# This machine does not trust the certificate authority, and the other authority did not sign the certificate.
UNTRUSTED = ["sslaccept=strict", "ssl-mode=VERIFY_IDENTITY", "ssl-mode=VERIFY_CA", "ssl_ca={here}/server.pem"]


@pytest.fixture(scope="module")
def tls() -> Iterator[tuple[Path, URL]]:
    """Start a server that supports TLS, and return its folder and URL."""
    here, url = server.start(tls=True)
    yield here.folder, make_url(url)
    here.remove()


@pytest.mark.parametrize(
    ("query", "is_encrypted"), [(query, True) for query in ENCRYPTED] + [(query, False) for query in PLAIN]
)
def test_url_decides_whether_the_connection_is_encrypted(
    start: Start, tls: tuple[Path, URL], query: str, is_encrypted: bool
) -> None:
    here, url = tls
    database = open_database(start, f"{url.render_as_string(False)}?{query.format(here=here)}")
    assert bool(cipher(database)) == is_encrypted


@pytest.mark.parametrize("query", UNTRUSTED)
def test_certificate_that_cannot_be_verified_fails_the_start(start: Start, tls: tuple[Path, URL], query: str) -> None:
    """One sentence about `DATABASE_URL` names the problem."""
    here, url = tls
    database = open_database(start, f"{url.render_as_string(False)}?{query.format(here=here)}")
    with pytest.raises(DBAPIError) as caught:
        cipher(database)
    assert "certificate verify failed" in backend.url_problem(caught.value)


def test_name_that_is_not_in_the_certificate_fails_the_start(start: Start, tls: tuple[Path, URL]) -> None:
    here, url = tls
    named = url.set(host="localhost").update_query_dict({"ssl_ca": f"{here}/ca.pem"})
    with pytest.raises(DBAPIError) as caught:
        cipher(open_database(start, named.render_as_string(False)))
    assert "Hostname mismatch" in backend.url_problem(caught.value)
    unchecked = named.update_query_dict({"ssl-mode": "VERIFY_CA"})
    assert cipher(open_database(start, unchecked.render_as_string(False)))


@pytest.mark.skipif(not (CHASSIS / "backup").is_dir(), reason="the service makes no backups")
@pytest.mark.parametrize("query", ["ssl-mode=REQUIRED", "ssl-ca={here}/ca.pem"])
def test_commands_use_the_tls_of_the_url(
    folder: Path, tls: tuple[Path, URL], monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """The backup tools use it too. The server rejects connections that are not encrypted."""
    here, url = tls
    server.program(server.DUMP_TOOL, "mariadb-client", ())
    (folder / "migrations").symlink_to(ROOT / "migrations")
    monkeypatch.setenv("DATABASE_URL", f"{url.render_as_string(False)}?{query.format(here=here)}")
    with server.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL require_secure_transport = 1")
        try:
            assert [module("chassis.cli").main(program(), [command]) for command in ("migrate", "backup")] == [0, 0]
        finally:
            cursor.execute("SET GLOBAL require_secure_transport = 0")


def test_server_without_tls_fails_a_url_that_requires_it(start: Start, folder: Path) -> None:
    if server.IS_MYSQL or GIVEN_URL:
        pytest.skip("the server may support TLS")
    url = make_url(server.url(folder)).update_query_dict({"ssl-mode": "REQUIRED"})
    with pytest.raises(DBAPIError):
        cipher(open_database(start, url.render_as_string(False)))


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("ssl-mode=REQUIRE", "has an invalid value for ssl_mode; use one of disabled, preferred, required, "),
        ("ssl_ca=missing.pem", "has ssl_ca=missing.pem, which is not a readable file"),
        ("ssl_ca=/", "has ssl_ca=/, which is not a readable file"),
        ("useSSL=true", "usessl (add ssl-mode=REQUIRED instead)"),
        ("connect_timeout=10", "connect_timeout (set DATABASE_CONNECT_TIMEOUT_SECONDS instead)"),
        ("read_timeout=10", "read_timeout (set DATABASE_STATEMENT_TIMEOUT_SECONDS instead)"),
        ("charset=latin1", "has another charset than utf8mb4; remove it"),
        ("init_command=SELECT 1", "has unknown parameters: init_command"),
        ("schema=public", "has unknown parameters: schema"),
        ("pgbouncer=true", "has unknown parameters: pgbouncer"),
        ("sql_mode=ANSI", "has unknown parameters: sql_mode"),
    ],
)
def test_url_that_would_fail_later_is_rejected_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], query: str, error: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"mysql://user:hunter2@host/name?{query}")
    assert module("chassis.cli").main(program(), ["check"]) == 78
    output = capsys.readouterr().err
    assert error in output
    assert "hunter2" not in output


def open_database(start: Start, url: str) -> Any:
    chassis: list[Any] = []
    start(install=chassis.append, started=False, database_url=url)
    return chassis[0].get(Database)


def cipher(database: Any) -> str:
    """Return the cipher of a connection, or an empty string."""
    statement = text("SHOW STATUS LIKE 'Ssl_cipher'")
    if not IS_ASYNC:
        with database.engine.connect() as connection:
            return str(connection.execute(statement).one()[1])

    async def ask() -> str:
        async with database.engine.connect() as connection:
            writer = (await connection.get_raw_connection()).driver_connection._writer
            found = str((await connection.execute(statement)).one()[1])
        await database.engine.dispose()
        with suppress(OSError):  # the server need not wait for the end of TLS
            await writer.wait_closed()
        return found

    return asyncio.run(ask())
