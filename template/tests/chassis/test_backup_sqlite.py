"""Backups of SQLite: the online backup ends while clients write, and no corrupt page is copied."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ..package import module
from .process import until
from .sql import engine, rows, run
from .test_backup import backup, crew, database, rejection, repack, restore, transfers

__all__ = ["crew", "database", "rejection"]  # fixtures


def test_backup_while_clients_write_ends(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its snapshot, the copy would start again after each commit."""
    monkeypatch.setenv("BACKUP_TIMEOUT_SECONDS", "20")
    monkeypatch.setattr(module("chassis.backup.sqlite"), "_PAGES", 1)
    for name in ("a_left", "z_right"):
        run(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)")()
        run(*(f"INSERT INTO {name} VALUES ({number}, 1000)" for number in range(4)))()
    run("CREATE TABLE filler AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
        " SELECT i, hex(randomblob(2000)) AS words FROM n")()  # fmt: skip
    with transfers() as done:
        until(lambda: len(done) > 20)
        file = backup()
    assert restore(file, "--replace") == 0
    assert sum(rows("SELECT balance FROM a_left") + rows("SELECT balance FROM z_right")) == 8000


def test_restore_rejects_a_dump_with_a_corrupt_page(rejection: Callable[..., str]) -> None:
    """The copy itself would not detect the damage."""
    file = repack(backup(), dump=lambda whole: whole[:4096] + bytes(4096) + whole[8192:])
    assert "the database is corrupt" in rejection(file)


def test_restore_while_a_client_writes_times_out(
    crew: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The restore waits for the end of the transaction, up to its time limit."""
    file = backup()
    monkeypatch.setenv("BACKUP_TIMEOUT_SECONDS", "0.5")
    with engine() as opened, opened.connect() as client:
        client.exec_driver_sql("BEGIN IMMEDIATE")
        assert restore(file, "--replace") == 1
    assert "took longer than BACKUP_TIMEOUT_SECONDS, 0.5 s" in capsys.readouterr().err
