"""The deadline of a request: 504 or 408 in time, and nothing of it is committed afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from ..package import CHASSIS, module
from .conftest import FAULTS, Logs, Start
from .process import PATIENCE_SECONDS, Process, read_all, serving, until
from .test_errors import assert_is_problem

errors = module("chassis.errors")
request_context = module("chassis.request_context")


class Overrun:
    """A handler that runs past the deadline of its request, and tries to commit then."""

    def __init__(self) -> None:
        self.began, self.release = threading.Event(), threading.Event()
        self.outcome: list[str] = []

    def __call__(self) -> None:
        context = request_context.current()
        self.began.set()
        self.release.wait(PATIENCE_SECONDS)
        try:
            context.begin_commit()
        except errors.DeadlineExceededError:
            self.outcome.append("refused")
        else:
            context.end_commit()
            self.outcome.append("committed")


def test_request_past_its_deadline_is_504(start: Start, logs: Logs) -> None:
    """The log entry has the route, and a traceback that shows where the time went."""
    client = start(request_timeout_seconds=0.1)
    assert_is_problem(client.get("/api/slow/5"), 504, "DEADLINE_EXCEEDED")
    (failed,) = logs("request_failed")
    assert failed["error_code"] == "DEADLINE_EXCEEDED"
    assert failed["http.route"] == "/api/slow/{seconds}"
    assert "Traceback" in failed["exception"]
    assert [entry["http.response.status_code"] for entry in logs("request_finished")] == [504]


def test_slow_handler_of_a_request_whose_body_has_arrived_is_504(start: Start) -> None:
    """A 408 would be wrong, because the client has sent the whole body. The handler does not read the body."""
    response = start(request_timeout_seconds=0.1).request("GET", "/api/slow/5", content=b"hello")
    assert_is_problem(response, 504, "DEADLINE_EXCEEDED")


def test_request_within_its_deadline_is_served(start: Start) -> None:
    """A request within its deadline is served, also after one that exceeded its deadline."""
    client = start(request_timeout_seconds=1)
    assert client.get("/api/slow/20").status_code == 504
    until(lambda: client.get("/api/slow/0.01").status_code == 200)


def test_thread_past_its_deadline_commits_nothing(start: Start) -> None:
    """The 504 is sent while the thread runs on; its later commit is refused, and its response is dropped."""
    overrun = Overrun()
    client = start({"overrun": overrun}, request_timeout_seconds=0.2)
    while not overrun.began.is_set():  # on a busy machine the deadline can pass before the handler begins
        response = client.get("/api/thread/overrun")
    assert overrun.outcome == []
    overrun.release.set()
    assert_is_problem(response, 504, "DEADLINE_EXCEEDED")
    until(lambda: overrun.outcome)
    assert overrun.outcome == ["refused"]
    assert client.get("/api/things/7").json() == {"thing_id": 7, "limit": 10}


def test_deadline_waits_for_a_commit_under_way(start: Start) -> None:
    """A client that gets 504 can be sure that nothing has been committed."""
    began, release = threading.Event(), threading.Event()
    done: list[bool] = []

    def commit_slowly() -> None:
        context = request_context.current()
        context.begin_commit()
        began.set()
        release.wait(PATIENCE_SECONDS)
        done.append(context.timed_out)
        context.end_commit()

    client = start({"commit": commit_slowly}, request_timeout_seconds=0.2)
    responses: list[httpx.Response] = []

    def commit() -> None:
        while not began.is_set():  # on a busy machine the deadline can pass before the handler begins
            responses[:] = [client.post("/api/thread/commit")]

    request = threading.Thread(target=commit)
    request.start()
    assert began.wait(PATIENCE_SECONDS)
    # A request that began later passes its deadline meanwhile.
    assert client.get("/api/slow/20").status_code == 504
    assert request.is_alive()
    release.set()
    request.join(PATIENCE_SECONDS)
    assert done == [False]
    assert responses[0].status_code == 200


def test_request_that_has_committed_gets_its_response_after_the_deadline(start: Start) -> None:
    """After a 504, a client would repeat the request. A second timeout limits its duration."""

    def commit_and_wait(seconds: float) -> None:
        context = request_context.current()
        context.begin_commit()
        context.end_commit()
        time.sleep(seconds)

    behaviours = {"late": lambda: commit_and_wait(0.8), "too-late": lambda: commit_and_wait(3)}
    client = start(behaviours, request_timeout_seconds=0.5)
    assert client.post("/api/thread/late").status_code == 200
    assert_is_problem(client.post("/api/thread/too-late"), 504, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize(("method", "expires"), [("GET", True), ("HEAD", True), ("POST", False), ("DELETE", False)])
def test_deadline_after_a_commit_expires_if_the_method_is_safe(method: str, expires: bool) -> None:
    """A unit of work that only read is committed as well. A client may repeat its GET."""
    context = request_context.new_context(method, "/", client_address="127.0.0.1", scheme="http")
    context.begin_commit()
    context.end_commit()
    assert context.expire() is expires


@pytest.mark.skipif(not (CHASSIS / "database").is_dir(), reason="the service has no database")
def test_unit_of_work_past_its_deadline_is_rolled_back(start: Start) -> None:
    """This holds for the service's own database and session, on the event loop and in a thread."""
    from . import unit_of_work  # only services with a database have it
    from .sql import rows, run

    run("CREATE TABLE things (name VARCHAR(20) NOT NULL UNIQUE)")()
    chassis: list[Any] = []
    ended = threading.Event()

    def insert() -> Any:
        result = unit_of_work.overrun(chassis[0], "INSERT INTO things (name) VALUES ('one')")
        if not hasattr(result, "__await__"):
            ended.set()
            return result
        return _and_then(result, ended)

    client = start({"insert": insert}, install=chassis.append, request_timeout_seconds=1)
    assert client.get("/api/here/insert").status_code == 504
    assert rows("SELECT name FROM things") == []


async def _and_then(awaitable: Any, ended: threading.Event) -> Any:
    try:
        return await awaitable
    finally:
        ended.set()


# -- request bodies ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Return a process with a short deadline and one thread; the tests share it."""
    settings = {"REQUEST_TIMEOUT_SECONDS": "0.5", "SERVER_THREADS": "1"}
    with serving(tmp_path_factory.mktemp("impatient"), *FAULTS, **settings) as process:
        yield process


@pytest.mark.parametrize("body", [
    b"Content-Length: 10\r\n\r\n", b"Content-Length: 10\r\n\r\nhello",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
], ids=["nothing", "half a body", "half a chunked body"])  # fmt: skip
def test_request_whose_body_does_not_come_is_408_and_holds_no_thread(impatient: Process, body: bytes) -> None:
    """Other requests are served meanwhile. The connection is closed afterwards."""
    with impatient.connect() as connection:
        connection.sendall(b"POST /api/body/echo HTTP/1.1\r\nHost: localhost\r\n" + body)
        until(lambda: impatient.get("/api/thread/nap").status_code == 200)
        response = read_all(connection)
    assert response.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in response
    assert b"DEADLINE_EXCEEDED" in response
    assert impatient.events("body_handled") == []


def test_health_of_a_service_with_late_requests_is_served(impatient: Process) -> None:
    """Health is served although more requests are late than there are threads."""
    with ExitStack() as stack:
        late = [stack.enter_context(impatient.connect()) for _ in range(8)]
        for connection in late:
            connection.sendall(
                b"GET /api/thread/past-deadline HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
        for path in ("/health/live", "/health/ready"):
            assert impatient.get(path).status_code == 200
        responses = [read_all(connection) for connection in late]
    assert {response[9:12] for response in responses} <= {b"503", b"504"}
    assert all(b"retry-after" in response for response in responses if response.startswith(b"HTTP/1.1 503"))
    assert impatient.events("committed") == []
