"""SQLite: one file, and one writer at a time."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ..package import module
from .conftest import Start
from .process import until
from .sql import run
from .test_errors import assert_is_problem
from .unit_of_work import in_request


def test_a_database_that_is_busy_is_unavailable_until_it_is_not(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with Retry-After while somebody else holds the lock; no restart is needed afterwards."""
    monkeypatch.setattr(module("chassis.database.sqlite"), "_BUSY_TIMEOUT_SECONDS", 0.01)
    run("CREATE TABLE things (name TEXT)")()
    client = start({"insert": run("INSERT INTO things (name) VALUES ('one')")})
    with closing(sqlite3.connect(folder / "test.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        answer = client.get("/api/here/insert")
        assert_is_problem(answer, 503, "UNAVAILABLE")
        assert answer.headers["retry-after"]
        other.execute("ROLLBACK")
    assert client.get("/api/here/insert").status_code == 200


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_needs_no_pool(start: Start, url: str) -> None:
    """It has one connection, or one for each thread, whatever the pool's settings are."""
    assert start(database_url=url).get("/health/ready").status_code == 200


@pytest.mark.parametrize("fate", ["lost", "overwritten"])
def test_a_file_that_cannot_be_read_makes_the_service_unready(start: Start, folder: Path, fate: str) -> None:
    """Connections that have it open would go on as if nothing had happened; how they are used is shown all the same."""
    client = start(health_check_interval_seconds=0.01)
    assert client.get("/health/ready").status_code == 200
    file = folder / "test.db"
    if fate == "lost":
        file.unlink()
    else:
        file.write_bytes(b"no database" * 1000)
    until(lambda: client.get("/health/ready").status_code == 503)
    assert client.get("/health").json()["checks"]["database"]["details"]["pool_size"] >= 1
    assert file.exists() == (fate == "overwritten")


def test_a_file_that_was_lost_does_not_come_back_empty(start: Start, folder: Path) -> None:
    """Whoever connects meanwhile gets 503, and everybody is served again as soon as the file is back."""
    run("CREATE TABLE things (name TEXT)")()
    # Slow enough for each of those that ask at once to need a connection of its own.
    count = (
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 300000) "
        "SELECT (SELECT count(*) FROM n) + (SELECT count(*) FROM things)"
    )
    services: list[Any] = []
    client = start({"count": lambda: in_request(services[0], count)}, install=services.append)
    file = folder / "test.db"

    def statuses() -> set[int]:
        with ThreadPoolExecutor(8) as many:
            return {answer.status_code for answer in many.map(lambda _: client.get("/api/here/count"), range(8))}

    file.rename(folder / "elsewhere")
    assert 503 in statuses() <= {200, 503}
    assert not file.exists()
    (folder / "elsewhere").rename(file)
    assert statuses() == {200}
