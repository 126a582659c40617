"""One id, everywhere: in the answer's header, in every log line of the request, in the error body."""

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
from .process import PATIENCE_SECONDS

request_context = module("chassis.request_context")

FITTING = ["7", "A-z_0.9", "x" * 128]
UNFIT = ["", "x" * 129, "a b", "a;b", "<script>", "a\tb", "a/b"]

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def say() -> str:
    """Log a line, as a handler does."""
    structlog.get_logger("orders").info("said")
    return "said"


# -- the header --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", FITTING)
def test_a_clients_id_is_kept(start: Start, sent: str) -> None:
    """1 to 128 characters of A-Z a-z 0-9 . _ - come back as they were sent."""
    assert start().get("/", headers={"X-Request-ID": sent}).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", UNFIT)
def test_an_unfit_id_is_replaced(start: Start, sent: str) -> None:
    """Anything else could break a log or a page that shows it."""
    answered = start().get("/", headers={"X-Request-ID": sent}).headers["x-request-id"]
    assert answered != sent
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", answered)


def test_an_id_is_minted_for_each_request_that_brings_none(start: Start) -> None:
    """No two requests share one."""
    client = start()
    assert len({client.get("/").headers["x-request-id"] for _ in range(20)}) == 20


def test_a_correlation_id_is_taken_and_returned_under_its_own_name_too(start: Start) -> None:
    """Clients that know only X-Correlation-ID find it again."""
    headers = start().get("/", headers={"X-Correlation-ID": "c-1"}).headers
    assert headers["x-request-id"] == headers["x-correlation-id"] == "c-1"


def test_a_request_id_goes_before_a_correlation_id(start: Start) -> None:
    """Both come back under their own names."""
    headers = start().get("/", headers={"X-Request-ID": "r-1", "X-Correlation-ID": "c-1"}).headers
    assert (headers["x-request-id"], headers["x-correlation-id"]) == ("r-1", "c-1")


def test_an_unfit_correlation_id_is_answered_with_the_new_id(start: Start) -> None:
    """What was sent is not echoed."""
    headers = start().get("/", headers={"X-Correlation-ID": "<script>"}).headers
    assert headers["x-correlation-id"] == headers["x-request-id"] != "<script>"


def test_a_client_that_sent_no_correlation_id_gets_none(start: Start) -> None:
    """One name is enough for everybody else."""
    assert "x-correlation-id" not in start().get("/").headers


# -- the log lines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["here", "thread", "background"])
def test_every_line_of_a_request_carries_its_id(start: Start, logs: Logs, way: str) -> None:
    """Lines from the handler, from a worker thread and from a task or thread that the handler starts."""
    start({"say": say}).get(f"/api/{way}/say", headers={"X-Request-ID": "r-1"})
    (said,), (finished,) = logs("said"), logs("request_finished")
    assert said["request_id"] == finished["request_id"] == "r-1"
    assert said["http.request.method"] == "GET"
    assert said["url.path"] == f"/api/{way}/say"


def test_a_thread_of_your_own_is_given_the_request_by_carry(start: Start, logs: Logs) -> None:
    """Threads do not inherit what is known of the request; `request_context.carry` hands it over."""

    def in_a_thread() -> None:
        thread = threading.Thread(target=request_context.carry(say))
        thread.start()
        thread.join()

    start({"work": in_a_thread}).get("/api/here/work", headers={"X-Request-ID": "r-1"})
    assert [line["request_id"] for line in logs("said")] == ["r-1"]


def test_standard_library_lines_carry_it_too(start: Start, logs: Logs) -> None:
    """A library that knows nothing of requests logs under the request it serves."""
    start({"work": lambda: logging.getLogger("library").warning("hm")}).get(
        "/api/here/work", headers={"X-Request-ID": "r-1"}
    )
    assert [line["request_id"] for line in logs("hm")] == ["r-1"]


def test_the_error_body_carries_it(start: Start) -> None:
    """Whoever reports an error can be found in the logs."""
    answer = start().get("/nowhere", headers={"X-Request-ID": "r-1"})
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "r-1"


def test_error_reporters_are_given_it(start: Start) -> None:
    """What reports to an error tracker knows the request."""
    told: list[Any] = []
    client = start(
        {"crash": lambda: 1 // 0}, install=lambda service: service.error_reporters.append(lambda *all: told.append(all))
    )
    error_id = client.get("/api/here/crash", headers={"X-Request-ID": "r-1"}).json()["error_id"]
    ((cause, reported_id, context),) = told
    assert isinstance(cause, ZeroDivisionError)
    assert (reported_id, context.request_id) == (error_id, "r-1")


def test_the_user_is_in_the_lines_once_known(start: Start, logs: Logs) -> None:
    """Authentication sets `user_id`; the lines before it do not have the field."""

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


def test_traceparent_is_in_every_line(start: Start, logs: Logs) -> None:
    """Trace and span are those of the caller, with or without OpenTelemetry."""
    start({"say": say}).get("/api/here/say", headers={"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"})
    for line in (*logs("said"), *logs("request_finished")):
        assert (line["trace_id"], line["span_id"]) == (TRACE_ID, SPAN_ID)


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
def test_a_malformed_traceparent_starts_a_new_trace(start: Start, logs: Logs, sent: str) -> None:
    """W3C Trace Context, 3.2: it is ignored as a whole."""
    start().get("/", headers={"traceparent": sent})
    (line,) = logs("request_finished")
    assert re.fullmatch(r"[0-9a-f]{32}", line["trace_id"])
    assert re.fullmatch(r"[0-9a-f]{16}", line["span_id"])
    assert line["trace_id"] != TRACE_ID
    assert line["span_id"] != SPAN_ID


def test_a_traceparent_of_a_later_version_is_read(start: Start, logs: Logs) -> None:
    """Later versions may add fields at the end (W3C Trace Context, 4.3)."""
    start().get("/", headers={"traceparent": f"01-{TRACE_ID}-{SPAN_ID}-01-more"})
    assert logs("request_finished")[0]["trace_id"] == TRACE_ID


# -- nothing leaks -----------------------------------------------------------------------------------------------------


def test_nothing_leaks_out_of_a_request(start: Start, logs: Logs) -> None:
    """After an exception too, what is logged outside of a request names none, and the next one has its own id."""
    client = start({"crash": lambda: 1 // 0, "say": say})
    client.get("/api/here/crash", headers={"X-Request-ID": "r-1"})
    say()
    client.get("/api/here/say")
    outside, inside = logs("said")
    assert not {"request_id", "trace_id", "url.path", "user_id"} & outside.keys()
    assert inside["request_id"] != "r-1"
    assert request_context.current() is None


def test_requests_side_by_side_keep_their_own_ids(start: Start, logs: Logs) -> None:
    """Every line of fifty requests, eight at a time, names the path and the id of one and the same request."""
    two = threading.Barrier(2, timeout=PATIENCE_SECONDS)

    def meet_and_say() -> None:
        two.wait()
        say()

    client = start({str(number): meet_and_say for number in range(50)}, request_timeout_seconds=PATIENCE_SECONDS)

    def ask(number: int) -> None:
        client.get(f"/api/thread/{number}", headers={"X-Request-ID": f"r-{number}"})

    with ThreadPoolExecutor(8) as pool:  # of more than there are threads to serve them, some may be sent away
        list(pool.map(ask, range(50)))
    said = logs("said")
    assert sorted(line["request_id"] for line in said) == sorted(f"r-{number}" for number in range(50))
    assert all(line["url.path"] == f"/api/thread/{line['request_id'][2:]}" for line in said)


def test_carry_works_without_a_request() -> None:
    """Outside of a request there is nothing to carry, and the function runs all the same."""
    assert request_context.carry(lambda number: number + 1)(1) == 2


def test_tasks_inherit_the_request() -> None:
    """`asyncio` copies the context into each task, so nothing is to be done there."""

    async def outer() -> Any:
        context = request_context.RequestContext("r-1", TRACE_ID, SPAN_ID, "GET", "/", "127.0.0.1")
        token = request_context.enter(context)
        try:

            async def inner() -> Any:
                return request_context.current()

            return await asyncio.create_task(inner()) is context
        finally:
            request_context.leave(token)

    assert asyncio.run(outer())
