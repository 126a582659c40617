"""The limit on request bodies, enforced before the handler runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import Logs, Start
from .test_errors import assert_is_problem

JSON = {"content-type": "application/json"}


def body_of(size: int) -> bytes:
    """Return a valid body of exactly `size` bytes."""
    return b'{"name": "' + b"x" * (size - 12) + b'"}'


def in_parts(body: bytes) -> Iterator[bytes]:
    """Yield a body in parts, so that it is sent without a Content-Length."""
    for begin in range(0, len(body), 400):
        yield body[begin : begin + 400]


def test_body_at_the_limit_is_accepted(start: Start) -> None:
    """A body of exactly the limit is accepted, with and without a Content-Length."""
    client = start(max_request_body_bytes=1000)
    assert client.post("/api/things", content=body_of(1000), headers=JSON).status_code == 201
    assert client.post("/api/things", content=in_parts(body_of(1000)), headers=JSON).status_code == 201


def test_body_with_a_content_length_over_the_limit_is_413(start: Start) -> None:
    response = start(max_request_body_bytes=1000).post("/api/things", content=body_of(1001), headers=JSON)
    assert_is_problem(response, 413, "PAYLOAD_TOO_LARGE")


def test_body_without_a_content_length_over_the_limit_is_413(start: Start, logs: Logs) -> None:
    """The body is counted while it arrives."""
    client = start(max_request_body_bytes=1000)
    response = client.post("/api/things", content=in_parts(body_of(1001)), headers=JSON)
    assert_is_problem(response, 413, "PAYLOAD_TOO_LARGE")
    assert [entry["http.response.status_code"] for entry in logs("request_finished")] == [413]
    assert not logs("request_failed")


def test_body_over_the_limit_for_an_unknown_path_is_413(start: Start) -> None:
    response = start(max_request_body_bytes=1000).post("/nowhere", content=body_of(1001), headers=JSON)
    assert_is_problem(response, 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "", " ", "9" * 30, "9" * 5000])
def test_content_length_that_is_not_a_number_is_rejected(start: Start, length: str) -> None:
    """A number with more digits than Python converts is rejected too."""
    response = start().post("/api/things", content=b"{}", headers={**JSON, "content-length": length})
    assert response.status_code in (400, 413, 422)
    assert response.headers["content-type"] == "application/problem+json"


def test_body_shorter_than_its_content_length_never_reaches_the_handler(start: Start) -> None:
    """This holds under any ASGI server."""
    handled: list[bytes] = []
    client = start({"store": handled.append})
    response = client.post("/api/body/store", content=in_parts(b"x" * 500), headers={"content-length": "1000"})
    assert_is_problem(response, 400, "BAD_REQUEST")
    assert handled == []
