"""Backups of DuckDB, which the running service makes because no other process can open the file."""

from __future__ import annotations

import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from select import select
from typing import Any

import pytest

from ..package import PACKAGE, environment, module, program
from .conftest import Logs, Start, settings_for_tests
from .process import PATIENCE_SECONDS, SOURCES, serving, until
from .sql import engine, rows, run

cli = module("chassis.cli")
service_socket = module("chassis.backup.service_socket")
BackupError = module("chassis.backup").BackupError
SOCKET = "test.duckdb.backup-socket"


def newest(folder: Path) -> Path:
    return max((folder / "backups").glob("*.tar.gz"))


def test_restore_returns_what_only_duckdb_has(migrated: None, folder: Path) -> None:
    """This includes indexes, comments, constraints, self-references, sequences and nested values."""
    run(
        "CREATE SEQUENCE steps INCREMENT BY 5 START 5",
        "CREATE TABLE ships (id BIGINT DEFAULT nextval('steps') PRIMARY KEY, mate BIGINT REFERENCES ships (id),"
        " crew STRUCT(name VARCHAR, ports VARCHAR[]), sail TIMESTAMP_NS, age INTERVAL, big HUGEINT,"
        " word VARCHAR DEFAULT 'a, , ''b' CHECK (word <> ', , )'))",
        "CREATE TABLE oars (ship BIGINT REFERENCES ships (id), length INTEGER, twice INTEGER AS (2 * length))",
        "CREATE UNIQUE INDEX one_word ON ships (word)",
        "COMMENT ON TABLE ships IS 'a fleet'",
        "COMMENT ON COLUMN ships.word IS 'of honour'",
        "INSERT INTO ships (crew, sail, age, word, big) VALUES ({'name': 'O''Hara, \"Al\"', 'ports': ['a, b', NULL]},"
        " '2026-07-01 00:00:00.123456789', '1 month', 'yes', 170141183460469231731687303715884105727)",
        "INSERT INTO ships (mate) VALUES (5)",
        "INSERT INTO oars VALUES (10, 3)",
    )()
    states = [
        "SELECT ships::VARCHAR FROM ships",
        "SELECT oars::VARCHAR FROM oars",
        "SELECT sql || comment FROM duckdb_tables() ORDER BY ALL",
        "SELECT (table_name, constraint_type, constraint_column_names)::VARCHAR FROM duckdb_constraints() ORDER BY ALL",
        "SELECT sql FROM duckdb_indexes()",
        "SELECT comment FROM duckdb_columns() ORDER BY ALL",
    ]
    before = [rows(state) for state in states]
    assert cli.main(program(), ["backup"]) == 0
    run("UPDATE ships SET sail = NULL", "DELETE FROM oars")()
    assert cli.main(program(), ["restore", "--replace", str(newest(folder))]) == 0
    assert [rows(state) for state in states] == before
    assert rows("SELECT nextval('steps')") == [15]


def test_service_makes_a_backup_on_request(migrated: None, folder: Path) -> None:
    """Only the service's own user can request one. A killed service leaves nothing that blocks the next."""
    with serving(folder, PACKAGE, "serve", SHUTDOWN_DRAIN_SECONDS="0") as process:
        assert stat.S_IMODE((folder / SOCKET).stat().st_mode) == 0o600
        assert cli.main(program(), ["backup"]) == 0
        until(lambda: process.events("backup_made"))
        assert process.events("backup_made")[0]["path"] == str(newest(folder))
        newest(folder).unlink()
        process.send(signal.SIGKILL)
        process.exit_code()
    assert (folder / SOCKET).exists()
    assert cli.main(program(), ["backup"]) == 0, "no service listens, so the command makes it"
    newest(folder).unlink()
    with serving(folder, PACKAGE, "serve", SHUTDOWN_DRAIN_SECONDS="0") as process:
        assert cli.main(program(), ["backup", "--verify"]) == 0
        until(lambda: process.events("backup_made"))
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
    assert not (folder / SOCKET).exists()


def test_backup_lets_readers_go_on_and_writers_wait(migrated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file must not change while it is copied."""
    run("CREATE TABLE counted AS SELECT 1 AS number")()
    copy = module("chassis.backup.duckdb")._copy
    add = run("UPDATE counted SET number = number + 1")
    added: list[Future[None]] = []

    def copy_slowly(*arguments: Any) -> None:
        added.append(pool.submit(add))
        with pytest.raises(TimeoutError):
            added[0].result(0.5)
        assert rows("SELECT number FROM counted") == [1]
        copy(*arguments)

    monkeypatch.setattr(module("chassis.backup.duckdb"), "_copy", copy_slowly)
    with ThreadPoolExecutor(1) as pool:
        assert cli.main(program(), ["backup"]) == 0
        added[0].result(PATIENCE_SECONDS)
    assert rows("SELECT number FROM counted") == [2]


def test_backup_in_the_service_keeps_the_file_locked(migrated: None, start: Start, folder: Path) -> None:
    """A process that opened and closed the file itself would lose its lock and let another process in."""
    start()
    assert cli.main(program(), ["backup"]) == 0
    command = [sys.executable, "-c", "import duckdb; duckdb.connect('test.duckdb')"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
    assert "Could not set lock on file" in done.stderr


@pytest.mark.parametrize("command", [["restore", "any", "--replace"]], ids=["restore"])
def test_restore_while_the_service_runs_is_rejected(migrated: None, folder: Path, command: list[str]) -> None:
    assert cli.main(program(), ["backup"]) == 0
    newest(folder).rename(folder / "any")
    with engine() as opened, opened.connect():
        done = subprocess.run(
            [sys.executable, "-m", PACKAGE, *command],
            cwd=folder,
            env=environment(folder, PYTHONPATH=SOURCES),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Nothing was restored: another process has the database open")
    assert done.stderr.count("\n") == 1


def test_backup_that_the_service_cannot_make_fails_with_its_reason(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    client = start()
    assert cli.main(program(), ["backup"]) == 1
    error = capsys.readouterr().err
    assert "The backup failed: the database has no schema yet; run `" in error
    assert error.endswith(" migrate`\n")
    assert client.get("/health/ready").status_code == 200


def test_request_to_a_service_that_hangs_times_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BACKUP_TIMEOUT_SECONDS", "0.3")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(SOCKET)
        listener.listen()
        assert cli.main(program(), ["backup"]) == 1
    assert "the service did not respond within 0.3 s" in capsys.readouterr().err


def test_request_while_too_many_wait_fails_with_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as clients:
        listener.bind(SOCKET)
        listener.listen(1)
        with suppress(OSError):
            while True:
                client = clients.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(SOCKET)
        assert cli.main(program(), ["backup"]) == 1
    assert capsys.readouterr().err == (
        "The backup failed: too many backup commands wait for the service; try again later\n"
    )


def test_silent_client_does_not_block_backups(migrated: None, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_socket, "_TIMEOUT_SECONDS", 0.5)
    start()
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as gone:
        silent.connect(SOCKET)
        gone.connect(SOCKET)
        gone.close()
        assert cli.main(program(), ["backup"]) == 0


def test_service_without_a_running_backup_stops_at_once(migrated: None) -> None:
    """Each stop would add the interval at which a server polls, for example 0.5 s."""
    settings = settings_for_tests()
    began = time.monotonic()
    for _ in range(30):
        with service_socket.listening(settings, pytest.fail):
            assert Path(SOCKET).exists()
        assert not Path(SOCKET).exists()
    assert time.monotonic() - began < 8


def test_service_that_stops_does_not_wait_for_a_backup(migrated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """More clients wait than the socket has room for."""
    monkeypatch.setattr(service_socket, "_TIMEOUT_SECONDS", 0.1)
    is_making, may_end = threading.Event(), threading.Event()

    def make(_settings: Any) -> Any:
        is_making.set()
        may_end.wait(PATIENCE_SECONDS)
        raise BackupError("too late")

    settings = settings_for_tests()
    with ThreadPoolExecutor(2) as pool, ExitStack() as clients:
        with service_socket.listening(settings, make):
            running = pool.submit(service_socket.request_backup, settings)
            assert is_making.wait(PATIENCE_SECONDS)
            with suppress(OSError):
                while True:
                    client = clients.enter_context(socket.socket(socket.AF_UNIX))
                    client.settimeout(0.1)
                    client.connect(SOCKET)
        assert not running.done()
        may_end.set()
        with pytest.raises(BackupError, match="too late"):
            running.result(PATIENCE_SECONDS)


def test_request_that_waits_while_the_service_stops_fails(folder: Path) -> None:
    with ThreadPoolExecutor(1) as pool, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(SOCKET)
        listener.listen()
        requested = pool.submit(service_socket.request_backup, settings_for_tests())
        assert select([listener], [], [], PATIENCE_SECONDS)[0]
        listener.close()
        with pytest.raises(BackupError, match="the service stopped before the backup was made; try again"):
            requested.result(PATIENCE_SECONDS)


def test_path_that_is_too_long_for_a_socket_is_logged(migrated: None, start: Start, logs: Logs, folder: Path) -> None:
    deep = folder / ("d" * 100)
    start(database_url=f"duckdb:///{deep}/test.duckdb")
    (entry,) = logs("backup_socket_failed")
    assert entry["reason"].endswith("is too long for a socket; move the database to a shorter path")
