"""DuckDB: one process, one writer, many readers, and long statements."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import greenlet_spawn

from ..package import CHASSIS, PACKAGE, ROOT, environment, module
from .conftest import Start, measured
from .process import PATIENCE_SECONDS, serving, until
from .sql import backend, engine, rows, run
from .test_errors import assert_is_problem
from .unit_of_work import in_request

connections = module("chassis.database.duckdb_connection")

# A statement that takes hours unless it is interrupted.
ENDLESS = "SELECT count(*) FROM range(1000000000000) AS numbers WHERE hash(range) = 1"
ADD_ONE = "UPDATE counted SET number = number + 1"
READ = "SELECT number FROM counted"
CLIENTS, ROUNDS = 8, 10


@pytest.fixture
def open_client(start: Start) -> Callable[..., httpx.Client]:
    """Start an application whose routes run statements, each in one unit of work: `GET /api/here/<name>`."""

    def open_one(statements: dict[str, tuple[str, ...]], **settings: Any) -> httpx.Client:
        chassis: list[Any] = []

        def behaviour(wanted: tuple[str, ...]) -> Callable[[], Any]:
            return lambda: in_request(chassis[0], *wanted)

        behaviours = {name: behaviour(wanted) for name, wanted in statements.items()}
        return start(behaviours, install=chassis.append, **settings)

    return open_one


@pytest.fixture
def in_thread() -> Iterator[Callable[..., Future[httpx.Response]]]:
    """Send a request from another thread."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        yield lambda client, name: pool.submit(client.get, f"/api/here/{name}")


@pytest.fixture
def counted(folder: Path) -> None:
    """Create a table with one number and a unique name."""
    run("CREATE TABLE counted (number BIGINT, name VARCHAR UNIQUE)", "INSERT INTO counted VALUES (0, 'one')")()


# -- one writer, many readers ------------------------------------------------------------------------------------------


def test_space_on_the_disk_of_the_file_is_measured(start: Start) -> None:
    chassis: list[Any] = []
    start(install=chassis.append)
    found = measured(chassis[0])
    assert 0 < found["database.disk.free"][()] <= found["database.disk.size"][()]


def test_concurrent_writers_take_turns_while_readers_read(
    open_client: Callable[..., httpx.Client], counted: None
) -> None:
    """Every request succeeds, no write is lost, and none is applied twice."""
    client = open_client({"add": (ADD_ONE,), "read": (READ,)}, request_timeout_seconds=PATIENCE_SECONDS)
    ready = threading.Barrier(CLIENTS)

    def add_and_read() -> list[int]:
        ready.wait(PATIENCE_SECONDS)
        responses = []
        for _ in range(ROUNDS):
            assert client.get("/api/here/add").status_code == 200
            responses.append(client.get("/api/here/read"))
        return [int(response.text) for response in responses]

    with ThreadPoolExecutor(CLIENTS) as pool:
        seen = [future.result(PATIENCE_SECONDS) for future in [pool.submit(add_and_read) for _ in range(CLIENTS)]]
    assert rows(READ) == [CLIENTS * ROUNDS]
    # Each client reads its own writes, and never an older state than before.
    assert all(numbers == sorted(numbers) and len(set(numbers)) == ROUNDS for numbers in seen)


def test_writer_that_waits_too_long_for_another_one_is_unavailable(
    open_client: Callable[..., httpx.Client], counted: None
) -> None:
    """The response is 503, and nothing is written. Readers continue meanwhile."""
    client = open_client({"add": (ADD_ONE,), "read": (READ,)}, database_statement_timeout_seconds=2)
    with engine() as opened, opened.connect() as other:
        other.execute(text("UPDATE counted SET number = number + 10"))
        assert_is_problem(client.get("/api/here/add"), 503, "UNAVAILABLE")
        assert client.get("/api/here/read").json() == 0
        other.commit()
    assert client.get("/api/here/add").status_code == 200
    assert client.get("/api/here/read").json() == 11


@pytest.mark.parametrize(
    ("statement", "is_meant"),
    [
        (ADD_ONE, backend.is_transient),
        ("DELETE FROM counted", backend.is_transient),
        ("INSERT INTO counted VALUES (1, 'two')", backend.is_conflict),
    ],
)
def test_write_conflict_with_an_earlier_snapshot_is_reported(
    counted: None, statement: str, is_meant: Callable[[Exception], bool]
) -> None:
    """A transaction sees the data as of its start, so it does not see the other one's write."""

    def work(connected: Connection) -> None:
        connected.execute(text(statement))
        connected.commit()

    with engine() as opened, opened.connect() as first, opened.connect() as second:
        first.execute(text("SELECT * FROM counted")).all()
        work(second)
        with pytest.raises(DBAPIError) as raised:
            work(first)
    assert is_meant(raised.value)


# -- statements that take long -----------------------------------------------------------------------------------------


def test_long_statement_blocks_neither_probes_nor_other_requests(
    open_client: Callable[..., httpx.Client],
    in_thread: Callable[..., Future[httpx.Response]],
    counted: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[Any] = []
    create = connections.Connection.__init__
    monkeypatch.setattr(
        connections.Connection, "__init__", lambda self, *arguments: opened.append(self) or create(self, *arguments)
    )
    client = open_client(
        {"long": (ENDLESS,), "read": (READ,), "add": ("UPDATE counted SET number = 1",)},
        database_statement_timeout_seconds=600,
    )
    long = in_thread(client, "long")
    until(lambda: client.get("/health").json()["checks"]["database"]["details"]["in_use"] == 1)
    try:
        for path in ("/health/live", "/api/here/read", "/api/here/add"):
            assert client.get(path).status_code == 200
            assert not long.done()
    finally:  # interrupt the statement as its timeout would, because it uses all cores
        for connection in opened:
            connection._native.interrupt()
    assert_is_problem(long.result(60), 503, "UNAVAILABLE")


def test_statement_beyond_its_timeout_is_cancelled_and_its_connection_still_works(
    open_client: Callable[..., httpx.Client],
) -> None:
    client = open_client(
        {"long": (ENDLESS,), "query": ("SELECT 1",)}, database_statement_timeout_seconds=1, database_pool_size=1
    )
    assert_is_problem(client.get("/api/here/long"), 503, "UNAVAILABLE")
    assert client.get("/api/here/query").json() == 1


def test_statement_is_cancelled_at_the_deadline_of_its_request(
    open_client: Callable[..., httpx.Client], counted: None
) -> None:
    """Its write is rolled back. Its connection and its turn to write are free for the next request."""
    client = open_client(
        {"long": ("UPDATE counted SET number = 7", ENDLESS), "add": (ADD_ONE,)},
        request_timeout_seconds=2,
        database_statement_timeout_seconds=600,
        database_pool_size=1,
    )
    assert_is_problem(client.get("/api/here/long"), 504, "DEADLINE_EXCEEDED")
    assert client.get("/api/here/add").status_code == 200
    assert rows(READ) == [1]


def test_wait_for_the_writer_ends_at_the_deadline_of_its_request(
    open_client: Callable[..., httpx.Client], counted: None
) -> None:
    """The write is not performed later, when the other writer has finished."""
    client = open_client(
        {"read": (READ,), "add": (ADD_ONE,)},
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
    assert rows(READ) == [11]


@pytest.mark.skipif(not (CHASSIS / "database/asyncio.py").is_file(), reason="handlers run in threads")
def test_exception_of_a_statement_is_not_reported_by_the_event_loop_as_well() -> None:
    """The caller may get the exception, or may have been cancelled while it waited."""
    reported: list[Any] = []
    began, may_end = threading.Event(), threading.Event()

    def fail() -> None:
        began.set()
        may_end.wait(PATIENCE_SECONDS)
        raise LookupError

    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
        connection = await greenlet_spawn(connections.Connection, lambda: SimpleNamespace(fail=fail), 600, True)
        abandoned = asyncio.create_task(greenlet_spawn(connection.fail))
        await asyncio.to_thread(began.wait, PATIENCE_SECONDS)
        abandoned.cancel()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await abandoned
        with pytest.raises(LookupError):
            await greenlet_spawn(connection.fail)
        connection._worker.stop()

    asyncio.run(work())
    gc.collect()
    assert reported == []


# -- memory and files --------------------------------------------------------------------------------------------------


def test_result_larger_than_memory_goes_to_disk(folder: Path) -> None:
    """It goes to the configured folder, which a container with a read-only root needs."""
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


def test_lost_file_makes_the_service_unready(start: Start, folder: Path) -> None:
    """An open connection would not notice the loss. The pool details are still shown."""
    client = start(health_check_cache_seconds=0.01)
    assert client.get("/health/ready").status_code == 200
    (folder / "test.duckdb").unlink()
    until(lambda: client.get("/health/ready").status_code == 503)
    assert client.get("/health").json()["checks"]["database"]["details"]["pool_size"] >= 1


# -- one process -------------------------------------------------------------------------------------------------------


def test_migrate_while_the_service_has_the_file_open_fails_with_a_sentence(folder: Path) -> None:
    (folder / "migrations").symlink_to(ROOT / "migrations")
    with engine() as opened, opened.connect():
        done = subprocess.run(
            [sys.executable, "-m", PACKAGE, "migrate"],
            cwd=folder,
            env=environment(folder, PYTHONPATH=str(ROOT / "src")),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("The migration was not run")
    assert done.stderr.endswith("the service; stop it and start it again afterwards\n")
    assert done.stderr.count("\n") == 1


def test_new_service_waits_until_the_old_one_has_closed_the_file(folder: Path) -> None:
    """It waits up to STARTUP_TIMEOUT_SECONDS, so it may start while the old one still stops."""
    with engine() as opened:
        held = opened.connect()
        with serving(folder, PACKAGE, "serve", started=False, STARTUP_TIMEOUT_SECONDS="60") as process:
            time.sleep(1)  # longer than the pause between two tries
            assert process.popen.poll() is None
            assert process.get("/health/started").status_code == 503
            held.close()
            opened.dispose()
            process.wait_until_started()
            assert "database" in [entry["dependency"] for entry in process.events("dependency_opened")]
