"""Errors: whatever is raised, and wherever, the caller gets one kind of body and nothing of the cause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from ..package import module
from .conftest import Logs, Start

errors = module("chassis.errors")

SECRET = "password=hunter2 at /srv/secret.py in SELECT * FROM users"
MEMBERS = {
    "type", "title", "status", "detail", "instance", "error_code", "error_id", "request_id", "timestamp", "errors",
}  # fmt: skip

# The error table: what is raised, its error_code, its status, and the headers that belong to it.
TABLE: list[tuple[Callable[[], Exception], str, int, dict[str, str]]] = [
    (errors.BadRequestError, "BAD_REQUEST", 400, {}),
    (errors.UnauthenticatedError, "UNAUTHENTICATED", 401, {"www-authenticate": "Bearer"}),
    (errors.PermissionDeniedError, "PERMISSION_DENIED", 403, {}),
    (errors.NotFoundError, "NOT_FOUND", 404, {}),
    (lambda: errors.MethodNotAllowedError(["GET", "HEAD"]), "METHOD_NOT_ALLOWED", 405, {"allow": "GET, HEAD"}),
    (errors.ConflictError, "CONFLICT", 409, {}),
    (errors.PayloadTooLargeError, "PAYLOAD_TOO_LARGE", 413, {}),
    (errors.UnsupportedMediaTypeError, "UNSUPPORTED_MEDIA_TYPE", 415, {}),
    (errors.ValidationError, "VALIDATION_FAILED", 422, {}),
    (lambda: errors.RateLimitedError(retry_after_seconds=7), "RATE_LIMITED", 429, {"retry-after": "7"}),
    (errors.UnavailableError, "UNAVAILABLE", 503, {"retry-after": "5"}),
    (errors.DeadlineExceededError, "DEADLINE_EXCEEDED", 504, {}),
    (lambda: RuntimeError(SECRET), "INTERNAL", 500, {}),
    (lambda: TimeoutError(SECRET), "INTERNAL", 500, {}),
]
NAMES = [f"{code} {raised().__class__.__name__}" for raised, code, _, _ in TABLE]


def raising(make: Callable[[], Exception]) -> Callable[[], None]:
    def behaviour() -> None:
        raise make()

    return behaviour


def assert_is_problem(answer: httpx.Response, status: int, error_code: str) -> dict[str, Any]:
    """Check that an answer is a problem body, complete and safe, and return it."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    body: dict[str, Any] = answer.json()
    assert body.keys() == MEMBERS
    assert (body["status"], body["error_code"]) == (status, error_code)
    assert body["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not any(word in answer.text for word in ("hunter2", "/srv", "SELECT", "Traceback", "RuntimeError"))
    return body


@pytest.mark.parametrize("way", ["here", "thread"])
@pytest.mark.parametrize(("raised", "error_code", "status", "headers"), TABLE, ids=NAMES)
def test_what_is_raised_becomes_its_row_of_the_table(
    start: Start, raised: Callable[[], Exception], error_code: str, status: int, headers: dict[str, str], way: str
) -> None:
    """A status, an error_code, and the headers that go with them."""
    answer = start({"fail": raising(raised)}).get(f"/api/{way}/fail")
    assert_is_problem(answer, status, error_code)
    assert headers.items() <= answer.headers.items()


def test_the_members_of_a_problem(start: Start) -> None:
    """RFC 9457's own members, and ours beside them."""
    body = start({"fail": raising(errors.ConflictError)}).get("/api/here/fail").json()
    assert body["type"] == "about:blank"
    assert body["title"] == "Conflict"
    assert body["detail"] == "This contradicts what is stored."
    assert str(UUID(body["error_id"])) == body["error_id"]
    assert body["instance"] == f"urn:uuid:{body['error_id']}"
    assert body["timestamp"].endswith("Z")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(body["timestamp"])).total_seconds()) < 60
    assert body["errors"] == []


def test_a_detail_of_your_own_is_shown(start: Start) -> None:
    """It is written for the caller."""
    body = start({"fail": raising(lambda: errors.ConflictError("Two notes, one title."))}).get("/api/here/fail").json()
    assert body["detail"] == "Two notes, one title."


def test_field_errors_name_field_message_and_code(start: Start) -> None:
    """One entry for each fault of the input."""
    fault = errors.FieldError("tags.0", "is too long", "too_long")
    body = start({"fail": raising(lambda: errors.ValidationError(errors=[fault]))}).get("/api/here/fail").json()
    assert body["errors"] == [{"field": "tags.0", "message": "is too long", "code": "too_long"}]


# -- what the framework finds ------------------------------------------------------------------------------------------


def test_an_unknown_path_is_404(start: Start) -> None:
    """In the same form as every other error, and in the same words on every framework."""
    body = assert_is_problem(start().get("/nowhere"), 404, "NOT_FOUND")
    assert body["detail"] == "There is nothing here."


def test_a_wrong_method_is_405_and_names_the_right_ones(start: Start) -> None:
    """RFC 9110, 15.5.6: the answer must carry Allow."""
    answer = start().delete("/api/things")
    assert_is_problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert "POST" in answer.headers["allow"]


def test_fields_that_are_not_right_are_422(start: Start) -> None:
    """Readable JSON, wrong content: each fault is listed."""
    body = assert_is_problem(start().post("/api/things", json={"name": "", "count": "many"}), 422, "VALIDATION_FAILED")
    assert {fault["field"] for fault in body["errors"]} == {"name", "count"}
    assert all(fault["message"] and fault["code"] for fault in body["errors"])


@pytest.mark.parametrize("body", [b"", b"{", b'{"name": "x"', b"nonsense", b"{'name': 'x'}"])
def test_malformed_json_is_400(start: Start, body: bytes) -> None:
    """It cannot be read, so no field can be named."""
    answer = start().post("/api/things", content=body, headers={"content-type": "application/json"})
    if body:
        assert_is_problem(answer, 400, "BAD_REQUEST")
    else:  # a body that is missing altogether may also be called a missing field
        assert answer.status_code in (400, 422)


@pytest.mark.parametrize("body", [b"null", b"[]", b'"text"', b"7", b"true"])
def test_json_of_another_shape_is_422(start: Start, body: bytes) -> None:
    """An object is wanted."""
    answer = start().post("/api/things", content=body, headers={"content-type": "application/json"})
    assert_is_problem(answer, 422, "VALIDATION_FAILED")


@pytest.mark.parametrize("path", ["/api/things/7?limit=many", "/api/things/7?limit="])
def test_a_malformed_parameter_is_400(start: Start, path: str) -> None:
    """The field is named."""
    body = assert_is_problem(start().get(path), 400, "BAD_REQUEST")
    assert [fault["field"] for fault in body["errors"]] == ["limit"]


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded", None])
def test_a_wrong_content_type_is_415(start: Start, media_type: str | None) -> None:
    """JSON is read only where it is called JSON."""
    headers = {"content-type": media_type} if media_type else {}
    answer = start().post("/api/things", content=b'{"name": "x"}', headers=headers)
    assert_is_problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("media_type", ["application/json", "application/json; charset=utf-8", "application/hal+json"])
def test_json_under_any_of_its_names_is_read(start: Start, media_type: str) -> None:
    """With parameters, and with a structured suffix (RFC 6839)."""
    answer = start().post("/api/things", content=b'{"name": "x"}', headers={"content-type": media_type})
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("status", "error_code"), [(403, "PERMISSION_DENIED"), (410, "GONE"), (418, "IM_A_TEAPOT"), (503, "UNAVAILABLE")]
)
def test_the_frameworks_own_exceptions_become_problems_too(start: Start, status: int, error_code: str) -> None:
    """Code that knows only the framework answers in the same form."""
    answer = start().get(f"/api/things/refused/{status}")
    assert_is_problem(answer, status, error_code)


# -- 5xx ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["here", "thread"])
def test_a_5xx_is_logged_once_with_everything(start: Start, logs: Logs, way: str) -> None:
    """The traceback, the error_id that the caller quotes, and the fields of the request."""
    answer = start({"fail": raising(lambda: RuntimeError("the cause"))}).get(f"/api/{way}/fail")
    (line,) = [line for line in logs() if "the cause" in str(line)]
    assert (line["event"], line["level"]) == ("request_failed", "error")
    assert line["error_id"] == answer.json()["error_id"]
    assert "Traceback" in line["exception"]
    assert "RuntimeError: the cause" in line["exception"]
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["http.route"].startswith(f"/api/{way}/")
    asked = {"http.request.method": "GET", "url.path": f"/api/{way}/fail", "client.address": "127.0.0.1"}
    assert {name: line[name] for name in asked} == asked
    assert (len(line["trace_id"]), len(line["span_id"])) == (32, 16)


@pytest.mark.parametrize("status", [500, 503])
def test_a_5xx_that_the_framework_raises_is_logged_with_its_cause(start: Start, logs: Logs, status: int) -> None:
    """What the answer does not say is in the log: where it was raised, with what, and because of what."""
    start().get(f"/api/things/refused/{status}")
    (line,) = logs("request_failed")
    assert "Traceback" in line["exception"]
    assert "KeyError: 'the cause'" in line["exception"]


def test_a_5xx_for_being_late_is_logged_with_where_the_time_went(start: Start, logs: Logs) -> None:
    """The traceback ends in the code that took it."""
    assert start(request_timeout_seconds=0.1).get("/api/slow/5").status_code == 504
    (line,) = logs("request_failed")
    assert "Traceback" in line["exception"]
    assert "application.py" in line["exception"]


def test_a_4xx_is_no_failure_of_ours(start: Start, logs: Logs) -> None:
    """It has its access line, and no other."""
    start().get("/nowhere")
    assert [line["event"] for line in logs() if "request_id" in line] == ["request_finished"]


def test_an_error_reporter_that_fails_does_no_harm(start: Start, logs: Logs) -> None:
    """The caller still gets the answer; the log says that the report is missing."""

    def report(*_: Any) -> None:
        raise OSError("the tracker is away")

    client = start({"fail": raising(lambda: RuntimeError(SECRET))}, install=lambda s: s.error_reporters.append(report))
    assert_is_problem(client.get("/api/here/fail"), 500, "INTERNAL")
    assert len(logs("error_reporter_failed")) == 1


# -- outside the framework ---------------------------------------------------------------------------------------------


def test_a_crash_in_a_middleware_is_answered_like_any_other(start: Start, logs: Logs) -> None:
    """Same body, same headers, one line with the traceback, and one access line."""
    assert_is_problem(start().get("/crash-in-middleware"), 500, "INTERNAL")
    assert len(logs("request_failed")) == 1
    assert [line["http.response.status_code"] for line in logs("request_finished")] == [500]


def test_debug_shows_nothing_to_the_caller_either(start: Start) -> None:
    """The framework's debug pages hold source and variables; the chassis stands before them."""
    client = start({"fail": raising(lambda: RuntimeError(SECRET))}, debug=True)
    assert_is_problem(client.get("/api/here/fail"), 500, "INTERNAL")
    assert_is_problem(client.get("/crash-in-middleware"), 500, "INTERNAL")
