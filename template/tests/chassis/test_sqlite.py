"""SQLite: one writer at a time."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ..package import module
from .conftest import Start
from .sql import run
from .test_errors import assert_is_problem


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
