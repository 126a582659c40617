"""Limits on body size and time, judged before the handler runs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from .conftest import Logs, Start
from .process import until
from .test_errors import assert_is_problem

JSON = {"content-type": "application/json"}


def body_of(size: int) -> bytes:
    """Return a valid body of exactly `size` bytes."""
    return b'{"name": "' + b"x" * (size - 12) + b'"}'


def in_parts(body: bytes) -> Iterator[bytes]:
    """Yield a body in parts, so that it is sent without a Content-Length."""
    for begin in range(0, len(body), 400):
        yield body[begin : begin + 400]


def test_a_body_at_the_limit_is_read(start: Start) -> None:
    """Declared or not."""
    client = start(max_request_body_bytes=1000)
    assert client.post("/api/things", content=body_of(1000), headers=JSON).status_code == 201
    assert client.post("/api/things", content=in_parts(body_of(1000)), headers=JSON).status_code == 201


def test_a_body_that_is_declared_too_large_is_refused(start: Start) -> None:
    """By its Content-Length alone."""
    answer = start(max_request_body_bytes=1000).post("/api/things", content=body_of(1001), headers=JSON)
    assert_is_problem(answer, 413, "PAYLOAD_TOO_LARGE")


def test_a_body_that_grows_too_large_is_refused(start: Start, logs: Logs) -> None:
    """Without a Content-Length it is counted while it comes."""
    client = start(max_request_body_bytes=1000)
    answer = client.post("/api/things", content=in_parts(body_of(1001)), headers=JSON)
    assert_is_problem(answer, 413, "PAYLOAD_TOO_LARGE")
    assert [line["http.response.status_code"] for line in logs("request_finished")] == [413]
    assert not logs("request_failed")


def test_a_path_that_does_not_exist_has_the_same_limit(start: Start) -> None:
    """Nobody uploads a film to a 404."""
    answer = start(max_request_body_bytes=1000).post("/nowhere", content=body_of(1001), headers=JSON)
    assert_is_problem(answer, 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "", " ", "9" * 30, "9" * 5000])
def test_a_content_length_that_is_no_number_is_refused(start: Start, length: str) -> None:
    """And so is one of thirty digits, or of more than Python reads."""
    answer = start().post("/api/things", content=b"{}", headers={**JSON, "content-length": length})
    assert answer.status_code in (400, 413, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_request_past_its_time_is_504(start: Start, logs: Logs) -> None:
    """The caller hears at once that nothing will come, and the handler is stopped."""
    client = start(request_timeout_seconds=0.1)
    began = time.monotonic()
    assert_is_problem(client.get("/api/slow/20"), 504, "DEADLINE_EXCEEDED")
    assert time.monotonic() - began < 15
    (failed,) = logs("request_failed")
    assert failed["error_code"] == "DEADLINE_EXCEEDED"
    assert [line["http.response.status_code"] for line in logs("request_finished")] == [504]


def test_a_request_within_its_time_is_served(start: Start) -> None:
    """And the next one after a late one too."""
    client = start(request_timeout_seconds=0.5)
    assert client.get("/api/slow/20").status_code == 504

    def is_served() -> bool:
        began = time.monotonic()
        status = client.get("/api/slow/0.1").status_code
        assert status == 200 or time.monotonic() - began > 0.5  # all of its time, on a machine that is that busy
        return status == 200

    until(is_served)
