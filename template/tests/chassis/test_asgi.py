"""What only an ASGI service can do: asynchronous checks and resources, and cutting a connection off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from ..package import module
from .application import create_app
from .conftest import Start, settings_for_tests
from .in_process import open_client
from .process import Process, until

Check = module("chassis.health.registry").Check


def test_asynchronous_checks_run_side_by_side(start: Start) -> None:
    """Each waits for the other, and both pass."""

    def install(service: Any) -> None:
        first_came, second_came = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            first_came.set()
            await second_came.wait()

        async def second() -> None:
            second_came.set()
            await first_came.wait()

        service.health.add(Check("first", first))
        service.health.add(Check("second", second))

    assert start(install=install).get("/health").json()["status"] == "healthy"


def test_an_asynchronous_check_that_hangs_times_out(start: Start) -> None:
    """It is cancelled after HEALTH_CHECK_TIMEOUT_SECONDS; its failure is no text of anybody's."""

    async def hang() -> None:
        await asyncio.sleep(1)

    async def fail() -> None:
        raise RuntimeError("hunter2")

    def install(service: Any) -> None:
        service.health.add(Check("hangs", hang))
        service.health.add(Check("fails", fail))

    answer = start(install=install, health_check_timeout_seconds=0.05).get("/health")
    checks = answer.json()["checks"]
    assert (checks["hangs"]["status"], checks["fails"]["status"]) == ("timeout", "error")
    assert "hunter2" not in answer.text


def test_probes_that_wait_together_ask_once(start: Start) -> None:
    """The first probe starts the check, and the others wait for its result."""
    asked: list[str] = []

    async def slow() -> None:
        asked.append("once")
        await asyncio.sleep(0.1)

    client = start(install=lambda service: service.health.add(Check("slow", slow)), health_check_interval_seconds=60)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(client.get, ["/health/ready"] * 16))
    assert asked == ["once"]


def test_an_asynchronous_resource_is_opened_and_closed() -> None:
    """Among those that are not, in its place."""
    happened: list[str] = []

    @asynccontextmanager
    async def client() -> AsyncIterator[None]:
        happened.append("opened")
        yield
        happened.append("closed")

    feature = SimpleNamespace(install=lambda service: service.lifespans.append(("client", client)))
    with open_client(create_app(settings_for_tests(), (*module("chassis.features").FEATURES, feature), {})):
        assert happened == ["opened"]
    assert happened == ["opened", "closed"]


def others(running: Process) -> list[str]:
    """Return the ids of what was no HTTP, up to now: a later request's line has been written."""
    marker = uuid4().hex
    running.get("/api/things/7", headers={"X-Request-ID": marker})
    until(lambda: marker in [line["request_id"] for line in running.events("request_finished")])
    return [line["request_id"] for line in running.events("request_finished") if line["url.path"] == ""]


def test_what_is_no_http_has_its_line_too(running: Process) -> None:
    """One, under the id that its answer has; nobody knows its method."""
    before = len(running.lines)
    head = running.exchange(b"BREW / HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")[0].decode().lower()
    request_id = dict(line.split(": ", 1) for line in head.splitlines()[1:])["x-request-id"]
    assert others(running)[-1] == request_id
    line, _later = running.lines[before:]
    assert (line["http.request.method"], line["http.response.status_code"]) == ("_OTHER", 400)


def test_a_whole_request_has_its_answer_whatever_comes_behind_it(running: Process) -> None:
    """That is the last one of the connection."""
    before = others(running)
    sent = running.exchange(b"GET /api/things/7 HTTP/1.1\r\nHost: localhost\r\n\r\nBREW / HTTP/1.1\r\n\r\n")
    assert sent.startswith(b"HTTP/1.1 200 ")
    assert sent.count(b"HTTP/1.1 ") == 1
    assert others(running) == before


def test_a_request_that_cannot_be_read_to_its_end_has_one_line(running: Process) -> None:
    """Its own."""
    before = others(running)
    head = b"POST /api/things HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: broken-1\r\n"
    sent = running.exchange(head + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n")
    assert sent.startswith(b"HTTP/1.1 400 ")
    assert others(running) == before
    (line,) = (line for line in running.events("request_finished") if line["request_id"] == "broken-1")
    assert line["http.response.status_code"] == 400


def test_half_an_answer_is_cut_off(running: Process) -> None:
    """The last chunk is missing, so that no client takes it for a whole one (RFC 9112, 8)."""
    sent = running.exchange(
        b"GET /api/half HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: half-2\r\nConnection: close\r\n\r\n"
    )
    assert sent.endswith(b"half of the \r\n")
