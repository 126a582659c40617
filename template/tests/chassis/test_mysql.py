"""MySQL and MariaDB: a read-only server, and the private names of the drivers that the backend uses."""

from __future__ import annotations

import asyncio
import socket
from importlib.util import find_spec
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from ..package import PACKAGE
from ..servers import mysql as server
from .conftest import Start
from .process import until
from .sql import backend, engine
from .unit_of_work import Database

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
    """`_writer` gives access to the socket. The backend replaces `_reader` by one that limits each wait."""
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
            assert check["error"] == "the database does not accept writes"
            cursor.execute("SET GLOBAL read_only = 0")
            until(lambda: client.get("/health/ready").status_code == 200)
    finally:
        here.remove()
