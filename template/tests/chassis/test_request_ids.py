"""Request ids: the same one in the response header, in each log entry of the request, and in the error body."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import structlog

from ..package import module
from .conftest import Logs, Start
from .process import PATIENCE_SECONDS, Process

request_context = module("chassis.request_context")

WELL_FORMED = ["7", "A-z_0.9", "x" * 128]
MALFORMED = ["", "x" * 129, "a b", "a;b", "<script>", "a\tb", "a/b"]

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def say() -> str:
    """Log an entry, as a handler does."""
    structlog.get_logger("orders").info("said")
    return "said"


# -- the header --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", WELL_FORMED)
def test_well_formed_id_of_a_client_is_used(start: Start, sent: str) -> None:
    """An id may have 1 to 128 characters of A-Z a-z 0-9 . _ -"""
    assert start().get("/", headers={"X-Request-ID": sent}).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", MALFORMED)
def test_malformed_id_of_a_client_is_replaced(start: Start, sent: str) -> None:
    """Such an id could break a log or a page that shows it."""
    returned = start().get("/", headers={"X-Request-ID": sent}).headers["x-request-id"]
    assert returned != sent
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", returned)


def test_request_without_an_id_gets_a_new_one(start: Start) -> None:
    client = start()
    assert len({client.get("/").headers["x-request-id"] for _ in range(20)}) == 20


def test_correlation_id_is_used_and_returned_under_both_names(start: Start) -> None:
    headers = start().get("/", headers={"X-Correlation-ID": "c-1"}).headers
    assert headers["x-request-id"] == headers["x-correlation-id"] == "c-1"


def test_request_id_takes_precedence_over_a_correlation_id(start: Start) -> None:
    """Both ids are returned under their own names."""
    headers = start().get("/", headers={"X-Request-ID": "r-1", "X-Correlation-ID": "c-1"}).headers
    assert (headers["x-request-id"], headers["x-correlation-id"]) == ("r-1", "c-1")


def test_malformed_correlation_id_is_replaced(start: Start) -> None:
    headers = start().get("/", headers={"X-Correlation-ID": "<script>"}).headers
    assert headers["x-correlation-id"] == headers["x-request-id"] != "<script>"


def test_response_without_a_correlation_id_in_the_request_has_none(start: Start) -> None:
    assert "x-correlation-id" not in start().get("/").headers


# -- log entries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["here", "thread", "task"])
def test_log_entries_of_a_request_have_its_id(start: Start, logs: Logs, way: str) -> None:
    """This includes entries of the handler, a worker thread, and a task or thread that the handler starts."""
    start({"say": say}).get(f"/api/{way}/say", headers={"X-Request-ID": "r-1"})
    (said,), (finished,) = logs("said"), logs("request_finished")
    assert said["request_id"] == finished["request_id"] == "r-1"
    assert said["http.request.method"] == "GET"
    assert said["url.path"] == f"/api/{way}/say"


def test_thread_with_a_copied_context_logs_under_the_request(start: Start, logs: Logs) -> None:
    """A thread does not inherit the context by itself."""

    def in_a_thread() -> None:
        thread = threading.Thread(target=request_context.copy_request_context(say))
        thread.start()
        thread.join()

    start({"work": in_a_thread}).get("/api/here/work", headers={"X-Request-ID": "r-1"})
    assert [entry["request_id"] for entry in logs("said")] == ["r-1"]


def test_standard_library_entries_have_the_request_id(start: Start, logs: Logs) -> None:
    start({"work": lambda: logging.getLogger("library").warning("hm")}).get(
        "/api/here/work", headers={"X-Request-ID": "r-1"}
    )
    assert [entry["request_id"] for entry in logs("hm")] == ["r-1"]


def test_error_body_has_the_request_id(start: Start) -> None:
    response = start().get("/nowhere", headers={"X-Request-ID": "r-1"})
    assert response.json()["request_id"] == response.headers["x-request-id"] == "r-1"


def test_error_reporter_gets_the_request(start: Start) -> None:
    reported: list[Any] = []
    client = start(
        {"crash": lambda: 1 // 0},
        install=lambda chassis: chassis.error_reporters.append(lambda *report: reported.append(report)),
    )
    error_id = client.get("/api/here/crash", headers={"X-Request-ID": "r-1"}).json()["error_id"]
    ((cause, reported_id, context),) = reported
    assert isinstance(cause, ZeroDivisionError)
    assert (reported_id, context.request_id) == (error_id, "r-1")


def test_user_id_is_in_the_entries_after_it_was_set(start: Start, logs: Logs) -> None:
    """Authentication sets the user id."""

    def work() -> None:
        say()
        request_context.current().user_id = "u-7"
        say()

    start({"work": work}).get("/api/here/work")
    before, after = logs("said")
    (finished,) = logs("request_finished")
    assert "user_id" not in before
    assert after["user_id"] == finished["user_id"] == "u-7"


# -- traceparent -------------------------------------------------------------------------------------------------------


def test_traceparent_is_in_each_entry(start: Start, logs: Logs) -> None:
    """The ids of `traceparent` are logged with and without OpenTelemetry."""
    start({"say": say}).get("/api/here/say", headers={"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"})
    for entry in (*logs("said"), *logs("request_finished")):
        assert (entry["trace_id"], entry["span_id"]) == (TRACE_ID, SPAN_ID)


@pytest.mark.parametrize(
    "sent",
    [
        "nonsense",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{TRACE_ID[:-1]}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-01-more",
    ],
    ids=["nonsense", "version ff", "trace 0", "span 0", "capitals", "too short", "version 00 with a tail"],
)
def test_malformed_traceparent_starts_a_new_trace(start: Start, logs: Logs, sent: str) -> None:
    """A malformed header is ignored as a whole (W3C Trace Context, 3.2)."""
    start().get("/", headers={"traceparent": sent})
    (entry,) = logs("request_finished")
    assert re.fullmatch(r"[0-9a-f]{32}", entry["trace_id"])
    assert re.fullmatch(r"[0-9a-f]{16}", entry["span_id"])
    assert entry["trace_id"] != TRACE_ID
    assert entry["span_id"] != SPAN_ID


def test_traceparent_of_a_later_version_is_read(start: Start, logs: Logs) -> None:
    """Later versions may append fields (W3C Trace Context, 4.3)."""
    start().get("/", headers={"traceparent": f"01-{TRACE_ID}-{SPAN_ID}-01-more"})
    assert logs("request_finished")[0]["trace_id"] == TRACE_ID


# -- no leaks ----------------------------------------------------------------------------------------------------------


def test_request_context_does_not_leak_into_later_entries(start: Start, logs: Logs) -> None:
    """The context is also cleared after an exception."""
    client = start({"crash": lambda: 1 // 0, "say": say})
    client.get("/api/here/crash", headers={"X-Request-ID": "r-1"})
    say()
    client.get("/api/here/say")
    outside, inside = logs("said")
    assert not {"request_id", "trace_id", "url.path", "user_id"} & outside.keys()
    assert inside["request_id"] != "r-1"
    assert request_context.current() is None


def test_context_variables_of_a_request_are_not_seen_by_the_next_one(running: Process) -> None:
    """This holds for two requests that arrive at once on one connection."""
    mark = b"GET /api/here/mark HTTP/1.1\r\nHost: localhost\r\n"
    sent = running.exchange(mark + b"\r\n" + mark + b"Connection: close\r\n\r\n")
    assert sent.count(b"unmarked") == 2
    assert b'"marked"' not in sent


def test_concurrent_requests_log_under_their_own_ids(start: Start, logs: Logs) -> None:
    two = threading.Barrier(2, timeout=PATIENCE_SECONDS)

    def meet_and_say() -> None:
        two.wait()
        say()

    client = start({str(number): meet_and_say for number in range(50)}, request_timeout_seconds=PATIENCE_SECONDS)

    def ask(number: int) -> None:
        client.get(f"/api/thread/{number}", headers={"X-Request-ID": f"r-{number}"})

    with ThreadPoolExecutor(8) as pool:  # no more than there are threads
        list(pool.map(ask, range(50)))
    said = logs("said")
    assert sorted(entry["request_id"] for entry in said) == sorted(f"r-{number}" for number in range(50))
    assert all(entry["url.path"] == f"/api/thread/{entry['request_id'][2:]}" for entry in said)


def test_copied_context_without_a_request_runs_the_function() -> None:
    assert request_context.copy_request_context(lambda number: number + 1)(1) == 2


def test_task_inherits_the_request() -> None:
    """asyncio copies the context into each task."""

    async def outer() -> Any:
        context = request_context.RequestContext("r-1", TRACE_ID, SPAN_ID, "GET", "/", "127.0.0.1")
        token = request_context.bind(context)
        try:

            async def inner() -> Any:
                return request_context.current()

            return await asyncio.create_task(inner()) is context
        finally:
            request_context.reset(token)

    assert asyncio.run(outer())
