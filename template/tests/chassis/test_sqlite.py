"""SQLite: one file, and one writer at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from ..package import CHASSIS, module
from .conftest import Start, measured
from .process import until
from .sql import rows, run
from .test_errors import assert_is_problem
from .unit_of_work import in_request

# Slow enough that each of several requests at once needs its own connection.
COUNT = (
    "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 300000) "
    "SELECT (SELECT count(*) FROM n) + (SELECT count(*) FROM things)"
)


@pytest.fixture
def statuses(start: Start, folder: Path) -> Callable[[], set[int]]:
    """Start an application, and return a function that sends it eight requests at once and returns their statuses."""
    run("CREATE TABLE things (name TEXT)")()
    chassis: list[Any] = []
    client = start({"count": lambda: in_request(chassis[0], COUNT)}, install=chassis.append)

    def send() -> set[int]:
        with ThreadPoolExecutor(8) as pool:
            return {response.status_code for response in pool.map(lambda _: client.get("/api/here/count"), range(8))}

    return send


def test_space_on_the_disk_of_the_file_is_measured(start: Start) -> None:
    chassis: list[Any] = []
    start(install=chassis.append)
    found = measured(chassis[0])
    assert 0 < found["database.disk.free"][()] <= found["database.disk.size"][()]


def test_busy_database_is_unavailable_until_the_lock_is_released(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The response is 503 with Retry-After, and no restart is needed."""
    monkeypatch.setattr(module("chassis.database.sqlite"), "_BUSY_TIMEOUT_SECONDS", 0.01)
    run("CREATE TABLE things (name TEXT)")()
    client = start({"insert": run("INSERT INTO things (name) VALUES ('one')")})
    with closing(sqlite3.connect(folder / "test.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        response = client.get("/api/here/insert")
        assert_is_problem(response, 503, "UNAVAILABLE")
        assert response.headers["retry-after"]
        other.execute("ROLLBACK")
    assert client.get("/api/here/insert").status_code == 200


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_database_in_memory_works_without_pool_settings(start: Start, url: str) -> None:
    assert start(database_url=url).get("/health/ready").status_code == 200


@pytest.mark.parametrize("fate", ["lost", "overwritten"])
def test_unreadable_file_makes_the_service_unready(start: Start, folder: Path, fate: str) -> None:
    """An open connection would not notice the fault. The pool details are still shown."""
    client = start(health_check_cache_seconds=0.01)
    assert client.get("/health/ready").status_code == 200
    file = folder / "test.db"
    if fate == "lost":
        file.unlink()
    else:
        file.write_bytes(b"no database" * 1000)
    until(lambda: client.get("/health/ready").status_code == 503)
    assert client.get("/health").json()["checks"]["database"]["details"]["pool_size"] >= 1
    assert file.exists() == (fate == "overwritten")


def test_lost_file_is_not_replaced_by_an_empty_one(statuses: Callable[[], set[int]], folder: Path) -> None:
    """All requests get 503, because what they write would be lost. All succeed once the file is back."""
    file = folder / "test.db"
    assert statuses() == {200}
    file.rename(folder / "elsewhere")
    assert statuses() == {503}
    assert not file.exists()
    (folder / "elsewhere").rename(file)
    assert statuses() == {200}


@pytest.mark.parametrize("is_moved", [True, False], ids=["moved back", "written again"])
def test_overwritten_file_serves_every_request_once_it_is_restored(
    statuses: Callable[[], set[int]], folder: Path, is_moved: bool
) -> None:
    """A connection that has read the overwritten file does not notice the restored one."""
    assert statuses() == {200}
    run("PRAGMA wal_checkpoint(TRUNCATE)")()
    file, copy = folder / "test.db", folder / "copy"
    copy.write_bytes(file.read_bytes())
    file.write_bytes(b"no database" * 1000)
    assert statuses() == {503}
    if is_moved:
        copy.replace(file)
    else:
        file.write_bytes(copy.read_bytes())
    assert statuses() == {200}


def test_file_that_replaces_another_is_used_at_once(start: Start, folder: Path) -> None:
    """A connection that stayed open would write to the old file, and the rows would be lost."""
    run("CREATE TABLE things (name TEXT)")()
    run("PRAGMA wal_checkpoint(TRUNCATE)")()
    (folder / "copy").write_bytes((folder / "test.db").read_bytes())
    chassis: list[Any] = []
    insert = {"insert": lambda: in_request(chassis[0], "INSERT INTO things (name) VALUES ('one')")}
    client = start(insert, install=chassis.append)
    assert client.get("/api/here/insert").status_code == 200
    (folder / "copy").replace(folder / "test.db")
    for name in ("test.db-wal", "test.db-shm"):
        (folder / name).unlink()
    assert client.get("/api/here/insert").status_code == 200
    with closing(sqlite3.connect(folder / "test.db")) as other:
        assert other.execute("SELECT count(*) FROM things").fetchall() == [(1,)]


def test_connection_that_was_opened_read_only_is_replaced(start: Start, folder: Path) -> None:
    """SQLite opens a file without write permission for reading only. `query_only` simulates this."""
    run("CREATE TABLE things (name TEXT)")()
    chassis: list[Any] = []
    insert = {"insert": lambda: in_request(chassis[0], "INSERT INTO things (name) VALUES ('one')")}
    with listening(Engine, "connect", lambda opened, _: opened.execute("PRAGMA query_only = ON").close()):
        client = start(insert, install=chassis.append)
    assert_is_problem(client.get("/api/here/insert"), 503, "UNAVAILABLE")
    assert client.get("/api/here/insert").status_code == 200


def test_file_with_its_maximum_of_pages_makes_the_service_unready_until_rows_are_deleted(
    start: Start, folder: Path
) -> None:
    """`PRAGMA max_page_count` limits each connection, so only a connection of the service knows it."""
    chassis: list[Any] = []
    run("CREATE TABLE filled (words TEXT)")()
    behaviours = {
        "write": lambda: in_request(chassis[0], f"INSERT INTO filled VALUES ('{'word' * 1000}')"),
        "delete": lambda: in_request(chassis[0], "DELETE FROM filled"),
    }

    def limit_pages(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA max_page_count = 50").close()

    with listening(Engine, "connect", limit_pages):
        client = start(behaviours, install=chassis.append, health_check_cache_seconds=0.01)
        assert client.get("/health/ready").status_code == 200
        until(lambda: client.get("/api/here/write").status_code == 503)
        until(lambda: client.get("/health/ready").status_code == 503)
        assert client.get("/health").json()["checks"]["database"]["error"] == "the database has reached max_page_count"
        assert client.get("/api/here/delete").status_code == 200
        until(lambda: client.get("/health/ready").status_code == 200)


@pytest.mark.skipif(not (CHASSIS / "database/asyncio.py").is_file(), reason="handlers run in threads")
def test_unit_of_work_commits_only_changes(start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each commit waits for the thread of the connection."""
    from aiosqlite import Connection  # FastAPI only

    commits: list[Connection] = []
    commit = Connection.commit
    monkeypatch.setattr(Connection, "commit", lambda connection: commits.append(connection) or commit(connection))
    run("CREATE TABLE things (name TEXT)")()
    chassis: list[Any] = []
    behaviours = {
        "read": lambda: in_request(chassis[0], "SELECT name FROM things"),
        "write": lambda: in_request(chassis[0], "INSERT INTO things (name) VALUES ('one')"),
    }
    client = start(behaviours, install=chassis.append)
    assert client.get("/api/here/read").status_code == 200
    assert len(commits) == 0
    assert client.get("/api/here/write").status_code == 200
    assert len(commits) == 1
    assert rows("SELECT name FROM things") == ["one"]


@contextmanager
def listening(target: Any, name: str, listener: Callable[..., None]) -> Iterator[None]:
    event.listen(target, name, listener)
    yield
    event.remove(target, name, listener)
