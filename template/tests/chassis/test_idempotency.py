"""Idempotency keys: which repetition runs again, which one gets the stored response, and which one is rejected."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from ..package import module
from .conftest import Start
from .process import PATIENCE_SECONDS
from .test_errors import assert_is_problem

errors = module("chassis.errors")
request_context = module("chassis.request_context")

KEY = {"idempotency-key": "a7c1"}


class Counted:
    """Code of a route that counts its runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.effect: Callable[[], None] | None = None
        self.started, self.go = threading.Event(), threading.Event()

    def __call__(self, body: bytes = b"") -> dict[str, int]:
        self.runs += 1
        if self.effect:
            self.effect()
        return {"runs": self.runs}

    def wait(self) -> None:
        self.started.set()
        self.go.wait(PATIENCE_SECONDS)


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def client(start: Start, counted: Counted) -> httpx.Client:
    return start({"counted": counted})


def test_repeated_request_gets_the_stored_response(client: httpx.Client, counted: Counted) -> None:
    """Status, headers of the route and body are the same; ids are those of the repetition."""
    first = client.post("/api/things", json={"name": "one"}, headers=KEY)
    again = client.post("/api/things", json={"name": "one"}, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    for _ in range(3):
        assert client.post("/api/body/counted", headers=KEY).json() == {"runs": 1}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"idempotency-key": "other"},
        KEY | {"authorization": "Bearer other"},
        KEY | {"cookie": "session=other"},
        [*KEY.items(), ("cookie", "session=other"), ("cookie", "")],
    ],
)
def test_request_of_another_key_or_caller_runs(client: httpx.Client, headers: Any) -> None:
    """A request without a key, or to another URL, runs as well."""
    assert client.post("/api/body/counted", headers=KEY).json() == {"runs": 1}
    assert client.post("/api/body/counted", headers=headers).json() == {"runs": 2}
    assert client.post("/api/body/counted?page=2", headers=KEY).json() == {"runs": 3}
    assert client.post("/api/body/counted", headers={"idempotency-key": '"a7c1"'}).json() == {"runs": 1}  # RFC 9651


def test_callers_with_the_same_id_and_another_kind_have_their_own_responses(start: Start, counted: Counted) -> None:
    """The name of an API key may be the subject of an access token."""

    def identify(context: Any, headers: Any) -> None:
        context.user_id = "ann"
        context.principal = request_context.Principal("ann", headers["x-kind"])

    client = start({"counted": counted}, install=lambda chassis: chassis.before_request.append(identify))
    for kind, runs in (("api-key", 1), ("jwt", 2), ("api-key", 1)):
        assert client.post("/api/body/counted", headers=KEY | {"x-kind": kind}).json() == {"runs": runs}


def test_key_with_another_body_is_rejected(client: httpx.Client, counted: Counted) -> None:
    assert client.post("/api/body/counted", content=b"one", headers=KEY).status_code == 200
    assert_is_problem(client.post("/api/body/counted", content=b"two", headers=KEY), 422, "VALIDATION_FAILED")
    assert counted.runs == 1


def test_repetition_of_a_running_request_is_a_conflict(client: httpx.Client, counted: Counted) -> None:
    """Afterwards it gets the response."""
    counted.effect = counted.wait
    with ThreadPoolExecutor() as pool:
        first = pool.submit(client.post, "/api/thread/counted", headers=KEY)
        assert counted.started.wait(PATIENCE_SECONDS)
        running = client.post("/api/thread/counted", headers=KEY)
        counted.go.set()
        assert first.result(PATIENCE_SECONDS).json() == {"runs": 1}
    assert_is_problem(running, 409, "CONFLICT")
    assert running.headers["retry-after"] == "1"
    assert client.post("/api/thread/counted", headers=KEY).json() == {"runs": 1}


@pytest.mark.parametrize("error", [errors.NotFoundError, errors.UnavailableError, RuntimeError])
def test_request_that_failed_runs_again(client: httpx.Client, counted: Counted, error: type[Exception]) -> None:
    def fail() -> None:
        raise error

    counted.effect = fail
    assert client.post("/api/body/counted", headers=KEY).status_code >= 400
    counted.effect = None
    assert client.post("/api/body/counted", headers=KEY).json() == {"runs": 2}


def test_request_that_failed_after_a_commit_does_not_run_again(client: httpx.Client, counted: Counted) -> None:
    """A second run could change something twice."""

    def fail() -> None:
        context = request_context.current()
        context.begin_commit()
        context.end_commit()
        raise RuntimeError

    counted.effect = fail
    assert client.post("/api/body/counted", headers=KEY).status_code == 500
    assert_is_problem(client.post("/api/body/counted", headers=KEY), 409, "CONFLICT")
    assert counted.runs == 1


def test_request_that_failed_after_its_deadline_was_extended_does_not_run_again(start: Start, counted: Counted) -> None:
    """It was extended because of a commit."""

    def fail_late() -> None:
        context = request_context.current()
        context.begin_commit()
        context.end_commit()
        until_extended = threading.Event()
        while context.extension_due:
            until_extended.wait(0.01)
        raise RuntimeError

    client = start({"counted": counted}, request_timeout_seconds=0.2)
    counted.effect = fail_late
    assert client.post("/api/thread/counted", headers=KEY).status_code in (500, 504)
    assert_is_problem(client.post("/api/thread/counted", headers=KEY), 409, "CONFLICT")
    assert counted.runs == 1


def test_request_after_its_deadline_runs_again(start: Start, counted: Counted) -> None:
    def wait() -> None:
        until_timed_out = threading.Event()
        while not request_context.current().timed_out:
            until_timed_out.wait(0.01)

    client = start({"counted": counted}, request_timeout_seconds=0.2)
    counted.effect = wait
    assert client.post("/api/thread/counted", headers=KEY).status_code == 504
    counted.effect = None
    assert client.post("/api/thread/counted", headers=KEY).json() == {"runs": 2}


def test_large_response_is_sent_once_and_not_stored(start: Start) -> None:
    client = start({"large": lambda body: {"text": "x" * 300_000}})
    assert len(client.post("/api/body/large", headers=KEY).json()["text"]) == 300_000
    assert_is_problem(client.post("/api/body/large", headers=KEY), 409, "CONFLICT")


@pytest.mark.parametrize("key", ["", '""', "a b", "x" * 256, '"open'])
def test_malformed_key_is_rejected(client: httpx.Client, counted: Counted, key: str) -> None:
    response = client.post("/api/body/counted", headers={"idempotency-key": key})
    assert_is_problem(response, 400, "BAD_REQUEST")
    assert counted.runs == 0


def test_repeated_header_is_rejected(client: httpx.Client) -> None:
    """Two keys would be joined to one."""
    response = client.post("/api/body/counted", headers=[("idempotency-key", "one"), ("idempotency-key", "two")])
    assert response.status_code == 400


def test_key_of_a_get_request_is_ignored(client: httpx.Client) -> None:
    assert "idempotency-replayed" not in [client.get("/api/things/1", headers=KEY) for _ in range(2)][1].headers
