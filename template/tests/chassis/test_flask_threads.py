"""The threads that run Flask's handlers: their number, and the behaviour when none becomes free."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from ..package import module
from .application import create_app
from .conftest import Logs, Start, measured, settings_for_tests
from .process import PATIENCE_SECONDS, until
from .test_errors import assert_is_problem


class Gate:
    """A handler that waits until the test opens the gate."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self._entered = threading.Semaphore(0)
        self.inside = 0
        self.most = 0

    def __call__(self) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self._entered.release()
        self.open.wait(PATIENCE_SECONDS)
        self.inside -= 1
        return "served"

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self._entered.acquire(timeout=PATIENCE_SECONDS)

    def overrun(self, client: httpx.Client) -> None:
        """Let one request run past its deadline, which on a busy machine can pass before a thread takes the request."""
        while not self.inside:
            assert client.get("/api/here/gate").status_code in (503, 504)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def test_request_beyond_the_threads_waits_for_one_that_becomes_free(
    start: Start, gate: Gate, callers: ThreadPoolExecutor
) -> None:
    """A short wait is not an error, and only as many handlers run at once as there are threads."""
    client = start({"gate": gate}, server_threads=2)
    requests = [callers.submit(client.get, "/api/here/gate") for _ in range(2)]
    gate.wait_for(2)
    requests.append(callers.submit(client.get, "/api/here/gate"))
    until(lambda: client.get("/health").json()["checks"]["threads"]["details"]["waiting"] == 1 or requests[2].done())
    gate.open.set()
    statuses = [request.result(PATIENCE_SECONDS).status_code for request in requests]
    assert statuses[:2] == [200, 200]
    assert statuses[2] in (200, 503)  # 503 if this machine is so busy that the wait was long
    assert gate.most <= 2


def test_requests_while_all_threads_hang_are_503_at_once(
    start: Start, logs: Logs, gate: Gate, callers: ThreadPoolExecutor
) -> None:
    """After a short first wait they get 503 with Retry-After. Health still works, and so do later requests."""
    chassis: list[Any] = []
    settings = {"server_threads": 2, "request_timeout_seconds": PATIENCE_SECONDS}
    client = start({"gate": gate}, install=chassis.append, **settings)
    hanging = [callers.submit(client.get, "/api/here/gate") for _ in range(2)]
    gate.wait_for(2)
    response = client.get("/api/things/7")
    assert_is_problem(response, 503, "UNAVAILABLE")
    assert int(response.headers["retry-after"]) > 0

    def seconds() -> float:
        began = time.monotonic()
        assert client.get("/api/things/7").status_code == 503
        return time.monotonic() - began

    # The first wait takes 0.75 s. A busy machine does not delay all of five requests.
    assert min(seconds() for _ in range(5)) < 0.5
    assert client.get("/health/ready").status_code == 200
    details = client.get("/health").json()["checks"]["threads"]["details"]
    assert details == {"threads": 2, "busy": 2, "overdue": 0, "waiting": 0}
    found = measured(chassis[0])
    assert (found["server.threads.max"], found["server.threads.busy"]) == ({(): 2}, {(): 2})
    gate.open.set()
    assert [request.result(PATIENCE_SECONDS).status_code for request in hanging] == [200, 200]
    until(lambda: client.get("/api/things/7").status_code == 200)


def test_thread_past_its_deadline_is_overdue_in_health_and_in_the_log(start: Start, logs: Logs, gate: Gate) -> None:
    """The log entry has the route and the stack. When the thread ends, the service is healthy again."""
    client = start(
        {"gate": gate}, server_threads=2, request_timeout_seconds=0.2, health_check_cache_seconds=0,
        install=lambda chassis: chassis.health.checks.__delitem__(slice(0, -1)),
    )  # fmt: skip
    gate.overrun(client)
    (entry,) = logs("thread_overdue")
    assert (entry["level"], entry["http.route"]) == ("warning", "/api/here/{name}")
    assert "self.open.wait" in entry["stack"]
    check = client.get("/health").json()["checks"]["threads"]
    assert check["status"] == "warning"
    assert check["details"]["overdue"] == 1
    gate.open.set()
    until(lambda: client.get("/health").json()["checks"]["threads"]["status"] == "ok")


def test_overdue_threads_leave_the_other_threads_to_other_requests(start: Start, gate: Gate) -> None:
    """If one of two threads hangs, the other one serves requests."""
    client = start({"gate": gate}, server_threads=2, request_timeout_seconds=0.2)
    gate.overrun(client)
    for _ in range(5):
        until(lambda: client.get("/api/things/7").status_code == 200)


def test_handler_that_calls_sys_exit_is_500_and_its_thread_serves_on(start: Start) -> None:
    """SystemExit ends the handler but not the service."""

    def leave() -> None:
        raise SystemExit(1)

    client = start({"leave": leave}, server_threads=1)
    assert_is_problem(client.get("/api/here/leave"), 500, "INTERNAL")
    assert client.get("/api/things/7").status_code == 200


def test_call_on_close_runs_after_the_response_and_outside_of_the_deadline(logs: Logs) -> None:
    """Like a background task, it does not delay the response, and a shutdown waits for it."""
    is_sent = threading.Event()
    closed: list[bool] = []

    def close() -> None:
        closed.append(is_sent.wait(PATIENCE_SECONDS))
        time.sleep(0.5)
        closed.append(True)

    settings = settings_for_tests(request_timeout_seconds=0.2)
    asgi = module("chassis.app").asgi_app(create_app(settings, module("chassis.features").FEATURES, {"work": close}))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            is_sent.set()

    path = "/api/close/work"
    asyncio.run(
        asgi({"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"localhost")]}, receive, send)
    )
    assert closed == [True, True]
    assert [entry["http.response.status_code"] for entry in logs("request_finished")] == [200]
    assert logs("thread_overdue") == []


def test_call_on_close_that_fails_is_logged_and_leaves_the_response(start: Start, logs: Logs) -> None:
    """The thread fails before or after the event loop sends the response; many requests cover both cases."""
    client = start({"fail": lambda: 1 // 0})
    assert {client.get("/api/close/fail").status_code for _ in range(20)} == {200}
    entries = logs("request_failed")
    assert len(entries) == 20
    assert all("ZeroDivisionError" in entry["exception"] for entry in entries)


def test_many_requests_on_few_threads_are_all_served(start: Start, callers: ThreadPoolExecutor) -> None:
    """Each request gets its own response."""
    client = start(server_threads=2)

    def get(number: int) -> httpx.Response:
        return client.get(f"/api/things/{number}")

    responses = list(callers.map(get, range(200)))
    assert [response.json()["thing_id"] for response in responses] == list(range(200))
