"""DuckDB: one process, one writer, many readers, and statements that take long."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from ..package import PACKAGE, ROOT, environment, module, program
from .conftest import Logs, Start, settings_for_tests
from .process import PATIENCE_SECONDS, Process, serving, until
from .sql import dialect, engine, rows, run
from .test_errors import assert_is_problem
from .unit_of_work import in_request

cli = module("chassis.cli")

# A statement that lasts for hours, unless it is interrupted.
FOREVER = "SELECT count(*) FROM range(1000000000000) AS numbers WHERE hash(range) = 1"
CLIENTS, ROUNDS = 8, 10


@pytest.fixture
def ask(start: Start) -> Callable[..., httpx.Client]:
    """Start an application whose routes run statements, each in one unit of work: `GET /api/here/<name>`."""

    def open_client(statements: dict[str, tuple[str, ...]], **settings: Any) -> httpx.Client:
        services: list[Any] = []

        def behaviour(wanted: tuple[str, ...]) -> Callable[[], Any]:
            return lambda: in_request(services[0], *wanted)

        behaviours = {name: behaviour(wanted) for name, wanted in statements.items()}
        return start(behaviours, install=services.append, **settings)

    return open_client


@pytest.fixture
def at_once() -> Iterator[Callable[..., Future[httpx.Response]]]:
    """Ask in a thread of one's own."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        yield lambda client, name: pool.submit(client.get, f"/api/here/{name}")


@pytest.fixture
def counted(folder: Path) -> None:
    """A table with one number in it, and a name that may stand once."""
    run("CREATE TABLE counted (number BIGINT, name VARCHAR UNIQUE)", "INSERT INTO counted VALUES (0, 'one')")()


def newest(folder: Path) -> Path:
    return max((folder / "backups").glob("*.backup"))


# -- one writer, many readers ------------------------------------------------------------------------------------------


def test_writers_take_turns_while_readers_read(ask: Callable[..., httpx.Client], counted: None) -> None:
    """Clients add one and read, all at once: nobody hears an error, no write is lost, and none is doubled."""
    client = ask(
        {"add": ("UPDATE counted SET number = number + 1",), "read": ("SELECT number FROM counted",)},
        request_timeout_seconds=PATIENCE_SECONDS,
    )
    ready = threading.Barrier(CLIENTS)

    def add_and_read() -> list[int]:
        ready.wait(PATIENCE_SECONDS)
        answers = []
        for _ in range(ROUNDS):
            assert client.get("/api/here/add").status_code == 200
            answers.append(client.get("/api/here/read"))
        return [int(answer.text) for answer in answers]

    with ThreadPoolExecutor(CLIENTS) as pool:
        seen = [future.result(PATIENCE_SECONDS) for future in [pool.submit(add_and_read) for _ in range(CLIENTS)]]
    assert rows("SELECT number FROM counted") == [CLIENTS * ROUNDS]
    # Each reads its own writes, and never an older state than before.
    assert all(numbers == sorted(numbers) and len(set(numbers)) == ROUNDS for numbers in seen)


def test_a_writer_waits_for_another_for_so_long_and_no_longer(ask: Callable[..., httpx.Client], counted: None) -> None:
    """Then the answer is 503, and nothing was written; readers go on meanwhile."""
    client = ask(
        {"add": ("UPDATE counted SET number = number + 1",), "read": ("SELECT number FROM counted",)},
        database_statement_timeout_seconds=2,
    )
    with engine() as opened, opened.connect() as other:
        other.execute(text("UPDATE counted SET number = number + 10"))
        assert_is_problem(client.get("/api/here/add"), 503, "UNAVAILABLE")
        assert client.get("/api/here/read").json() == 0
        other.commit()
    assert client.get("/api/here/add").status_code == 200
    assert client.get("/api/here/read").json() == 11


@pytest.mark.parametrize(
    ("statement", "meaning"),
    [
        ("UPDATE counted SET number = number + 1", dialect.is_transient),
        ("DELETE FROM counted", dialect.is_transient),
        ("INSERT INTO counted VALUES (1, 'two')", dialect.is_conflict),
    ],
)
def test_who_writes_after_another_one_wrote_the_same_is_told(
    counted: None, statement: str, meaning: Callable[[Exception], bool]
) -> None:
    """A transaction sees what there was when it began, so the second one knows nothing of the first."""

    def work(connected: Connection) -> None:
        connected.execute(text(statement))
        connected.commit()

    with engine() as opened, opened.connect() as first, opened.connect() as second:
        first.execute(text("SELECT * FROM counted")).all()
        work(second)
        with pytest.raises(DBAPIError) as refused:
            work(first)
    assert meaning(refused.value)


# -- statements that take long -----------------------------------------------------------------------------------------


def test_a_long_statement_holds_nobody_up(
    ask: Callable[..., httpx.Client], at_once: Callable[..., Future[httpx.Response]], counted: None
) -> None:
    """It runs beside the event loop: probes, readers and writers are answered while it goes on."""
    client = ask(
        {"long": (FOREVER,), "read": ("SELECT number FROM counted",), "add": ("UPDATE counted SET number = 1",)},
        database_statement_timeout_seconds=10,  # for all that is asked meanwhile, on a busy machine too
    )
    long = at_once(client, "long")
    until(lambda: client.get("/health").json()["checks"]["database"]["details"]["in_use"] == 1)
    for path in ("/health/live", "/api/here/read", "/api/here/add"):
        assert client.get(path).status_code == 200
        assert not long.done()
    assert_is_problem(long.result(60), 503, "UNAVAILABLE")


def test_a_statement_that_takes_too_long_is_ended(ask: Callable[..., httpx.Client]) -> None:
    """The answer is 503, and the one connection there is is as good as before."""
    client = ask({"long": (FOREVER,), "ask": ("SELECT 1",)}, database_statement_timeout_seconds=1, database_pool_size=1)
    assert_is_problem(client.get("/api/here/long"), 503, "UNAVAILABLE")
    assert client.get("/api/here/ask").json() == 1


def test_a_statement_ends_with_its_request(ask: Callable[..., httpx.Client], counted: None) -> None:
    """After REQUEST_TIMEOUT_SECONDS it is interrupted, what it wrote is undone, and its turn is another one's."""
    client = ask(
        {"long": ("UPDATE counted SET number = 7", FOREVER), "add": ("UPDATE counted SET number = number + 1",)},
        request_timeout_seconds=2,
        database_statement_timeout_seconds=600,
        database_pool_size=1,
    )
    assert_is_problem(client.get("/api/here/long"), 504, "DEADLINE_EXCEEDED")
    assert client.get("/api/here/add").status_code == 200
    assert rows("SELECT number FROM counted") == [1]


def test_a_wait_for_the_writer_ends_with_its_request(ask: Callable[..., httpx.Client], counted: None) -> None:
    """What nobody waits for any more is not written later, when its turn would come."""
    client = ask(
        {"read": ("SELECT number FROM counted",), "add": ("UPDATE counted SET number = number + 1",)},
        request_timeout_seconds=2,
        database_statement_timeout_seconds=600,
        database_pool_size=1,
    )
    with engine() as opened, opened.connect() as other:
        other.execute(text("UPDATE counted SET number = number + 10"))
        assert_is_problem(client.get("/api/here/add"), 504, "DEADLINE_EXCEEDED")
        assert client.get("/api/here/read").json() == 0
        other.commit()
    assert client.get("/api/here/add").status_code == 200
    assert rows("SELECT number FROM counted") == [11]


# -- memory and files --------------------------------------------------------------------------------------------------


def test_what_does_not_fit_into_memory_goes_to_disk(folder: Path) -> None:
    """Into the folder of choice, which a container with a read-only root needs."""
    spill = folder / "spill"
    query = "CREATE TABLE ordered AS SELECT hash(range)::VARCHAR AS text FROM range(700000) ORDER BY text"
    limits = {
        "database_memory_limit_bytes": 41_943_040,
        "database_threads": 1,
        "database_statement_timeout_seconds": 600,
    }
    with engine(database_temp_directory=str(spill), **limits) as opened, opened.begin() as connected:
        connected.execute(text(query))
        assert spill.is_dir()
    assert rows("SELECT count(*) FROM ordered") == [700_000]


def test_a_lost_file_makes_the_service_unready(start: Start, folder: Path) -> None:
    """It stays open, so that everything would seem to go on; how the pool is used is shown all the same."""
    client = start(health_check_interval_seconds=0.01)
    assert client.get("/health/ready").status_code == 200
    (folder / "test.duckdb").unlink()
    until(lambda: client.get("/health/ready").status_code == 503)
    assert client.get("/health").json()["checks"]["database"]["details"]["pool_size"] >= 1


# -- one process -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "failure"),
    [(["migrate"], "The migration was not run"), (["restore", "any.backup", "--replace"], "Nothing was restored")],
    ids=["migrate", "restore"],
)
def test_what_needs_the_file_for_itself_is_refused_while_the_service_has_it(
    folder: Path, command: list[str], failure: str
) -> None:
    """With a sentence that says what to do."""
    (folder / "migrations").symlink_to(ROOT / "migrations")
    assert cli.main(program(), ["migrate"]) == 0
    assert cli.main(program(), ["backup"]) == 0
    newest(folder).rename(folder / "any.backup")
    with engine() as opened, opened.connect():
        done = subprocess.run(
            [sys.executable, "-m", PACKAGE, *command],
            cwd=folder,
            env=environment(folder, PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(failure)
    assert done.stderr.endswith("the service; stop it, and start it again afterwards\n")
    assert done.stderr.count("\n") == 1


def test_a_service_waits_until_the_one_before_it_has_ended(folder: Path) -> None:
    """For STARTUP_TIMEOUT_SECONDS; so a new container may start while the old one still stops."""
    with engine() as opened:
        held = opened.connect()
        with serving(folder, PACKAGE, "serve", started=False, STARTUP_TIMEOUT_SECONDS="60") as process:
            time.sleep(1)  # for more than one try
            assert process.popen.poll() is None
            assert process.get("/health/started").status_code == 503
            held.close()
            opened.dispose()
            process.wait_until_started()
            assert "database" in [line["dependency"] for line in process.events("dependency_opened")]


# -- backups -----------------------------------------------------------------------------------------------------------


def test_a_restored_table_is_as_it_was_with_what_only_duckdb_has(folder: Path) -> None:
    """Its index, comments and constraints, the steps of its keys, and values within values."""
    (folder / "migrations").symlink_to(ROOT / "migrations")
    assert cli.main(program(), ["migrate"]) == 0
    run(
        "CREATE SEQUENCE steps INCREMENT BY 5 START 5",
        "CREATE TABLE ships (id BIGINT DEFAULT nextval('steps') PRIMARY KEY, mate BIGINT REFERENCES ships (id),"
        " crew STRUCT(name VARCHAR, ports VARCHAR[]), sail TIMESTAMP_NS, age INTERVAL,"
        " word VARCHAR DEFAULT 'a, , ''b' CHECK (word <> ', , )'))",
        "CREATE TABLE oars (ship BIGINT REFERENCES ships (id), length INTEGER, twice INTEGER AS (2 * length))",
        "CREATE UNIQUE INDEX one_word ON ships (word)",
        "COMMENT ON TABLE ships IS 'a fleet'",
        "COMMENT ON COLUMN ships.word IS 'of honour'",
        "INSERT INTO ships (crew, sail, age, word) VALUES"
        " ({'name': 'O''Hara, \"Al\"', 'ports': ['a, b', NULL]}, '2026-07-01 00:00:00.123456789', '1 month', 'yes')",
        "INSERT INTO ships (mate) VALUES (5)",
        "UPDATE ships SET sail = NULL WHERE id = 10",
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
    file = newest(folder)
    for _ in range(2):
        run("UPDATE ships SET sail = NULL", "DELETE FROM oars")()
        assert cli.main(program(), ["restore", "--replace", str(file)]) == 0
        assert [rows(state) for state in states] == before
        assert rows("SELECT nextval('steps')") == [11]
    assert rows("SELECT increment_by FROM duckdb_sequences() WHERE sequence_name = 'steps'") == [5]


def test_the_service_makes_backups_when_it_is_asked(migrated: None, folder: Path) -> None:
    """It alone has the file open. Only its own user may ask; a killed service leaves nothing that stands in the way."""
    socket_path = folder / "test.duckdb.backup-socket"
    with serving(folder, PACKAGE, "serve", SHUTDOWN_DRAIN_SECONDS="0") as process:
        assert stat.S_IMODE(socket_path.stat().st_mode) == 0o600
        assert cli.main(program(), ["backup"]) == 0
        until(lambda: process.events("backup_made"))
        assert process.events("backup_made")[0]["path"] == str(newest(folder))
        newest(folder).unlink()
        kill_worker(process)
    assert socket_path.exists()
    # Nobody listens, so the command makes it, once the one that was killed has let go of the file.
    until(lambda: cli.main(program(), ["backup"]) == 0)
    newest(folder).unlink()
    with serving(folder, PACKAGE, "serve", SHUTDOWN_DRAIN_SECONDS="0") as process:
        assert cli.main(program(), ["backup"]) == 0
        until(lambda: process.events("backup_made"))
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
    assert not socket_path.exists()


def kill_worker(process: Process) -> None:
    """Kill the process, and the one it has started to serve."""
    found = subprocess.run(
        ["pgrep", "-P", str(process.popen.pid)], capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    for pid in (*map(int, found.stdout.split()), process.popen.pid):
        os.kill(pid, signal.SIGKILL)
    process.popen.wait(PATIENCE_SECONDS)


def test_why_the_service_made_no_backup_is_said_by_the_command(
    start: Start, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    """In a sentence, with exit code 1; the service goes on."""
    client = start()
    assert cli.main(program(), ["backup"]) == 1
    assert capsys.readouterr().err.endswith("The backup was not made: the database has no schema yet; run migrate\n")
    (folder / "backups").write_text("in the way")
    (folder / "migrations").symlink_to(ROOT / "migrations")
    assert cli.main(program(), ["migrate"]) == 0
    assert cli.main(program(), ["backup"]) == 1
    assert "File exists" in capsys.readouterr().err
    assert client.get("/health/ready").status_code == 200


def test_a_service_that_gives_no_answer_is_not_waited_for_longer_than_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For BACKUP_TIMEOUT_SECONDS; and one that has gone is seen at once."""
    monkeypatch.setenv("BACKUP_TIMEOUT_SECONDS", "0.3")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("test.duckdb.backup-socket")
        listener.listen()
        assert cli.main(program(), ["backup"]) == 1
        assert "the service gave no answer for 0.3 s" in capsys.readouterr().err


def test_who_asks_for_a_backup_and_says_nothing_holds_nobody_up(migrated: None, start: Start) -> None:
    """Its turn is over after a while, and at once when it goes."""
    start()
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as gone:
        silent.connect("test.duckdb.backup-socket")
        gone.connect("test.duckdb.backup-socket")
        gone.close()
        assert cli.main(program(), ["backup"]) == 0


def test_a_service_that_ends_gives_the_backup_up(migrated: None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for its end; nothing is left behind, and whoever asked is told."""
    dump = module("chassis.database.backup.dump")
    is_writing = threading.Event()

    def slowly(*arguments: Any) -> Iterator[Any]:
        *_, is_ending = arguments
        for row in rows_of(*arguments):
            is_writing.set()
            until(is_ending)
            yield row

    rows_of = dump._rows
    monkeypatch.setattr(dump, "_rows", slowly)
    run("CREATE TABLE many AS SELECT range AS number FROM range(3)")()
    by_service = module("chassis.database.backup.by_service")
    settings = settings_for_tests()
    with ThreadPoolExecutor(1) as pool:
        with by_service._offered(settings, dialect):
            asked = pool.submit(by_service.ask, settings, dialect.SYNC_DRIVER)
            assert is_writing.wait(PATIENCE_SECONDS)
        with pytest.raises(module("chassis.database.backup").BackupError, match="the service is ending"):
            asked.result(PATIENCE_SECONDS)
    assert not list((folder / "backups").iterdir())


def test_a_path_that_is_too_long_for_a_socket_is_said(migrated: None, start: Start, logs: Logs, folder: Path) -> None:
    """The service serves all the same; its backup is made while it stands still."""
    deep = folder / ("d" * 100)
    start(database_url=f"duckdb:///{deep}/test.duckdb")
    (line,) = logs("backups_not_offered")
    assert line["reason"].endswith("is too long for a socket: have the database where its path is shorter")
