"""The database when a thread still works with it after the service has stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import event

from .conftest import Start
from .unit_of_work import Database


def test_connection_that_a_thread_returns_after_the_stop_is_closed(start: Start, folder: Path) -> None:
    """Its request is past the deadline, so the stop does not wait for it."""
    installed: list[Any] = []
    start(install=installed.append, started=False)
    database = installed[0].get(Database)
    closed: list[Any] = []
    with database.lifespan():
        connection = database.engine.connect()
        driver_connection = connection.connection.dbapi_connection
        event.listen(database.engine.pool, "close", lambda gone, _entry: closed.append(gone))
    connection.close()
    assert driver_connection in closed
