"""Errors: for every exception the caller gets the same kind of body, which does not reveal the cause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
from pydantic import TypeAdapter

from ..package import module
from .conftest import Logs, Start

errors = module("chassis.errors")

SECRET = "password=hunter2 at /srv/secret.py in SELECT * FROM users"
MEMBERS = {
    "type", "title", "status", "detail", "instance", "error_code", "error_id", "request_id", "timestamp", "errors",
}  # fmt: skip

# What is raised, its error_code, its status, and the headers that belong to it.
TABLE: list[tuple[Callable[[], Exception], str, int, dict[str, str]]] = [
    (errors.BadRequestError, "BAD_REQUEST", 400, {}),
    (errors.UnauthenticatedError, "UNAUTHENTICATED", 401, {"www-authenticate": "Bearer"}),
    (errors.PermissionDeniedError, "PERMISSION_DENIED", 403, {}),
    (errors.NotFoundError, "NOT_FOUND", 404, {}),
    (lambda: errors.MethodNotAllowedError(["GET", "HEAD"]), "METHOD_NOT_ALLOWED", 405, {"allow": "GET, HEAD"}),
    (errors.RequestBodyTimeoutError, "DEADLINE_EXCEEDED", 408, {"connection": "close"}),
    (errors.ConflictError, "CONFLICT", 409, {}),
    (errors.PreconditionFailedError, "PRECONDITION_FAILED", 412, {}),
    (errors.PayloadTooLargeError, "PAYLOAD_TOO_LARGE", 413, {}),
    (errors.UnsupportedMediaTypeError, "UNSUPPORTED_MEDIA_TYPE", 415, {}),
    (errors.ValidationError, "VALIDATION_FAILED", 422, {}),
    (lambda: errors.RateLimitedError(retry_after_seconds=7), "RATE_LIMITED", 429, {"retry-after": "7"}),
    (errors.HeadersTooLargeError, "HEADERS_TOO_LARGE", 431, {"connection": "close"}),
    (errors.UnavailableError, "UNAVAILABLE", 503, {"retry-after": "5"}),
    (errors.DeadlineExceededError, "DEADLINE_EXCEEDED", 504, {}),
    (lambda: RuntimeError(SECRET), "INTERNAL", 500, {}),
    (lambda: TimeoutError(SECRET), "INTERNAL", 500, {}),
]
NAMES = [f"{code} {raised().__class__.__name__}" for raised, code, _, _ in TABLE]


def raising(make: Callable[[], BaseException]) -> Callable[[], None]:
    def behaviour() -> None:
        raise make()

    return behaviour


def assert_is_problem(response: httpx.Response, status: int, error_code: str) -> dict[str, Any]:
    """Check that a response is a problem body, complete and safe, and return it."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    body: dict[str, Any] = response.json()
    assert body.keys() == MEMBERS
    assert (body["status"], body["error_code"]) == (status, error_code)
    assert body["request_id"] == response.headers["x-request-id"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert not any(word in response.text for word in ("hunter2", "/srv", "SELECT", "Traceback", "RuntimeError"))
    return body


@pytest.mark.parametrize("way", ["here", "thread"])
@pytest.mark.parametrize(("raised", "error_code", "status", "headers"), TABLE, ids=NAMES)
def test_raised_error_has_the_status_and_headers_of_the_table(
    start: Start, raised: Callable[[], Exception], error_code: str, status: int, headers: dict[str, str], way: str
) -> None:
    response = start({"fail": raising(raised)}).get(f"/api/{way}/fail")
    assert_is_problem(response, status, error_code)
    assert headers.items() <= response.headers.items()


@pytest.mark.parametrize(("count", "status"), [(1, 404), (2, 500)])
def test_error_alone_in_a_group_has_its_own_status(start: Start, count: int, status: int) -> None:
    """`asyncio.TaskGroup` raises a group, even for one failed task, and groups can be nested."""
    found = [errors.NotFoundError()] * count
    response = start({"fail": raising(lambda: ExceptionGroup("a", [ExceptionGroup("b", found)]))}).get("/api/here/fail")
    assert_is_problem(response, status, "NOT_FOUND" if status == 404 else "INTERNAL")


def test_translator_of_a_group_has_precedence_over_the_error_in_it(start: Start) -> None:
    def install(chassis: Any) -> None:
        chassis.error_translators.append(lambda e: errors.ConflictError() if isinstance(e, ExceptionGroup) else None)

    fail = raising(lambda: ExceptionGroup("a", [errors.NotFoundError()]))
    assert_is_problem(start({"fail": fail}, install=install).get("/api/here/fail"), 409, "CONFLICT")


@pytest.mark.parametrize(
    "encode", [str.encode, orjson.dumps, TypeAdapter(Any).dump_json], ids=["str", "orjson", "pydantic"]
)
def test_lone_surrogate_that_cannot_be_encoded_is_invalid_input(
    start: Start, logs: Logs, encode: Callable[[Any], bytes]
) -> None:
    """JSON can contain a lone surrogate, which UTF-8 cannot encode. Each library has its own exception for it."""
    response = start({"encode": lambda: encode("a\ud800b")}).get("/api/here/encode")
    assert_is_problem(response, 422, "VALIDATION_FAILED")
    assert logs("request_failed") == []


def test_problem_body_has_the_members_of_rfc_9457_and_of_the_contract(start: Start) -> None:
    body = start({"fail": raising(errors.ConflictError)}).get("/api/here/fail").json()
    assert body["type"] == "about:blank"
    assert body["title"] == "Conflict"
    assert body["detail"] == errors.ConflictError.default_detail
    assert str(UUID(body["error_id"])) == body["error_id"]
    assert body["instance"] == f"urn:uuid:{body['error_id']}"
    assert body["timestamp"].endswith("Z")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(body["timestamp"])).total_seconds()) < 60
    assert body["errors"] == []


def test_detail_of_an_error_is_shown_to_the_caller(start: Start) -> None:
    body = start({"fail": raising(lambda: errors.ConflictError("Two notes, one title."))}).get("/api/here/fail").json()
    assert body["detail"] == "Two notes, one title."


def test_field_errors_name_field_message_and_code(start: Start) -> None:
    fault = errors.FieldError("tags.0", "is too long", "too_long")
    body = start({"fail": raising(lambda: errors.ValidationError(errors=[fault]))}).get("/api/here/fail").json()
    assert body["errors"] == [{"field": "tags.0", "message": "is too long", "code": "too_long"}]


@pytest.mark.parametrize(("count", "listed", "omitted"), [(50, 50, 0), (51, 50, 1), (10_000, 50, 9950)])
def test_field_errors_over_fifty_are_counted_and_not_listed(
    start: Start, count: int, listed: int, omitted: int
) -> None:
    """The last entry gives the number of omitted errors, so that the output stays bounded."""
    response = start().post("/api/things", json={"name": "x", "numbers": ["many"] * count})
    body = assert_is_problem(response, 422, "VALIDATION_FAILED")
    named = [fault for fault in body["errors"] if fault["field"].startswith("numbers.")]
    assert len(named) == listed
    rest = [fault for fault in body["errors"] if fault not in named]
    assert [(fault["code"], fault["message"].split()[0]) for fault in rest] == [("omitted", str(omitted))] * bool(
        omitted
    )


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "numbers": ["many"] * 100_000},
        {"name": "x"} | {f"{number:x}": 0 for number in range(100_000)},
        {"name": "x"} | {f"{number}{'x' * 9000}": 0 for number in range(100)},
        {"name": "x", "x" * 900_000: 0},
        {"name": "x", "count": "x" * 900_000},
    ],
    ids=["wrong items", "unknown fields", "unknown fields with long names", "a long name", "a long value"],
)
def test_error_response_has_a_bounded_size_whatever_the_request(start: Start, body: dict[str, Any]) -> None:
    response = start().post("/api/things", json=body)
    listed = assert_is_problem(response, 422, "VALIDATION_FAILED")["errors"]
    assert len(listed) <= 51
    assert len(response.content) < 50_000


def test_detail_of_an_error_is_cut_at_2000_characters(start: Start) -> None:
    body = start({"fail": raising(lambda: errors.ConflictError("x" * 100_000))}).get("/api/here/fail").json()
    assert body["detail"] == "x" * 1999 + "…"


# -- errors of the framework -------------------------------------------------------------------------------------------


def test_unknown_path_is_404(start: Start) -> None:
    """The wording is the same on every framework."""
    body = assert_is_problem(start().get("/nowhere"), 404, "NOT_FOUND")
    assert body["detail"] == errors.NotFoundError.default_detail


def test_wrong_method_is_405_and_names_the_allowed_ones(start: Start) -> None:
    """The response must have an Allow header (RFC 9110, 15.5.6)."""
    response = start().delete("/api/things")
    assert_is_problem(response, 405, "METHOD_NOT_ALLOWED")
    assert "POST" in response.headers["allow"]


@pytest.mark.parametrize("path", ["/api/things/7", "/api/things/framed/by-us", "/api/here/work"])
def test_head_of_a_get_route_has_its_headers_and_no_body(start: Start, logs: Logs, path: str) -> None:
    """HEAD returns the headers of GET without a body (RFC 9110, 9.3.2)."""
    client = start({"work": lambda: "done"})
    response = client.head(path)
    assert response.status_code == 200
    assert response.content == b""
    assert response.headers["content-length"] == client.get(path).headers["content-length"]
    assert [entry["http.request.method"] for entry in logs("request_finished")] == ["HEAD", "GET"]


def test_head_is_among_the_allowed_methods_of_a_get_route(start: Start) -> None:
    allowed = {method.strip() for method in start().delete("/api/things/7").headers["allow"].split(",")}
    assert {"GET", "HEAD"} <= allowed


def test_head_of_a_route_without_get_is_405(start: Start) -> None:
    assert start().head("/api/things").status_code == 405


def test_invalid_fields_are_422_and_listed(start: Start) -> None:
    body = assert_is_problem(start().post("/api/things", json={"name": "", "count": "many"}), 422, "VALIDATION_FAILED")
    assert {fault["field"] for fault in body["errors"]} == {"name", "count"}
    assert all(fault["message"] and fault["code"] for fault in body["errors"])


def test_unknown_field_of_a_model_that_forbids_it_is_422_and_named(start: Start) -> None:
    """A client cannot set a field that only the service may set."""
    response = start().post("/api/things", json={"name": "one", "is_admin": True})
    assert [fault["field"] for fault in assert_is_problem(response, 422, "VALIDATION_FAILED")["errors"]] == ["is_admin"]


@pytest.mark.parametrize("body", [b"{", b'{"name": "x"', b"nonsense", b"{'name': 'x'}"])
def test_malformed_json_is_400(start: Start, body: bytes) -> None:
    response = start().post("/api/things", content=body, headers={"content-type": "application/json"})
    assert_is_problem(response, 400, "BAD_REQUEST")


def test_missing_body_is_422(start: Start) -> None:
    response = start().post("/api/things", content=b"", headers={"content-type": "application/json"})
    assert [fault["code"] for fault in assert_is_problem(response, 422, "VALIDATION_FAILED")["errors"]] == ["missing"]


@pytest.mark.parametrize("body", [b"null", b"[]", b'"text"', b"7", b"true"])
def test_json_that_is_not_an_object_is_422(start: Start, body: bytes) -> None:
    response = start().post("/api/things", content=body, headers={"content-type": "application/json"})
    assert_is_problem(response, 422, "VALIDATION_FAILED")


@pytest.mark.parametrize("path", ["/api/things/7?limit=many", "/api/things/7?limit="])
def test_malformed_parameter_is_400_and_named(start: Start, path: str) -> None:
    body = assert_is_problem(start().get(path), 400, "BAD_REQUEST")
    assert [fault["field"] for fault in body["errors"]] == ["limit"]


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded", None])
def test_wrong_content_type_is_415(start: Start, media_type: str | None) -> None:
    headers = {"content-type": media_type} if media_type else {}
    response = start().post("/api/things", content=b'{"name": "x"}', headers=headers)
    assert_is_problem(response, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("media_type", ["application/json", "application/json; charset=utf-8", "application/hal+json"])
def test_json_content_type_with_parameters_or_suffix_is_accepted(start: Start, media_type: str) -> None:
    """A media type may have the suffix `+json` (RFC 6839)."""
    response = start().post("/api/things", content=b'{"name": "x"}', headers={"content-type": media_type})
    assert response.status_code == 201


@pytest.mark.parametrize(
    ("status", "error_code"), [(403, "PERMISSION_DENIED"), (410, "GONE"), (418, "IM_A_TEAPOT"), (503, "UNAVAILABLE")]
)
def test_exception_of_the_framework_is_a_problem(start: Start, status: int, error_code: str) -> None:
    """Code that uses only the framework's exceptions gets the same error body."""
    assert_is_problem(start().get(f"/api/things/refused/{status}"), status, error_code)


@pytest.mark.parametrize(
    ("status", "name", "value"), [(503, "retry-after", "77"), (401, "www-authenticate", "Basic realm=things")]
)
def test_exception_of_the_framework_keeps_its_headers(start: Start, status: int, name: str, value: str) -> None:
    """They take precedence over the defaults of the status."""
    response = start().get(f"/api/things/busy/{status}")
    assert response.status_code == status
    assert response.headers.get_list(name) == [value]
    assert response.headers["content-type"] == "application/problem+json"


# -- 5xx ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["here", "thread"])
def test_5xx_is_logged_once_with_traceback_and_request(start: Start, logs: Logs, way: str) -> None:
    """The entry has the error_id that the caller can quote."""
    response = start({"fail": raising(lambda: RuntimeError("the cause"))}).get(f"/api/{way}/fail")
    (entry,) = [entry for entry in logs() if "the cause" in str(entry)]
    assert (entry["event"], entry["level"]) == ("request_failed", "error")
    assert entry["error_id"] == response.json()["error_id"]
    assert "Traceback" in entry["exception"]
    assert "RuntimeError: the cause" in entry["exception"]
    assert entry["request_id"] == response.headers["x-request-id"]
    assert entry["http.route"] == f"/api/{way}/{{name}}"
    expected = {"http.request.method": "GET", "url.path": f"/api/{way}/fail", "client.address": "127.0.0.1"}
    assert expected.items() <= entry.items()
    assert (len(entry["trace_id"]), len(entry["span_id"])) == (32, 16)


@pytest.mark.parametrize("status", [500, 503])
def test_5xx_of_the_framework_is_logged_with_its_cause(start: Start, logs: Logs, status: int) -> None:
    """The log contains the details that the response omits."""
    start().get(f"/api/things/refused/{status}")
    (entry,) = logs("request_failed")
    assert "Traceback" in entry["exception"]
    assert "KeyError: 'the cause'" in entry["exception"]


def test_4xx_has_no_log_entry_but_that_of_the_access_log(start: Start, logs: Logs) -> None:
    start().get("/nowhere")
    assert [entry["event"] for entry in logs() if "request_id" in entry] == ["request_finished"]


def test_error_reporter_that_fails_does_not_change_the_response(start: Start, logs: Logs) -> None:
    """The log shows that the reporter failed."""

    def report(*_: Any) -> None:
        raise OSError("the tracker is unreachable")

    client = start({"fail": raising(lambda: RuntimeError(SECRET))}, install=lambda c: c.error_reporters.append(report))
    assert_is_problem(client.get("/api/here/fail"), 500, "INTERNAL")
    assert len(logs("error_reporter_failed")) == 1


@pytest.mark.parametrize("value", ["a\r\nx-injected: 1", "a\nb", "a\x00b", "a\x7fb"], ids=repr)
@pytest.mark.parametrize("place", ["name", "value"])
def test_response_header_with_a_control_character_is_500(start: Start, logs: Logs, place: str, value: str) -> None:
    """The connection is not dropped, and no header is injected."""
    header = {"name": "x-own", "value": "own"} | {place: value}
    response = start().get("/api/header", params=header)
    assert_is_problem(response, 500, "INTERNAL")
    assert "x-injected" not in response.headers
    assert len(logs("request_failed")) == 1


@pytest.mark.parametrize("name", ["", "x own", "x:own", "x-öwn", "x(own)"], ids=repr)
def test_response_header_with_an_invalid_name_is_500(start: Start, logs: Logs, name: str) -> None:
    """A header's name is a token (RFC 9110, 5.6.2)."""
    assert_is_problem(start().get("/api/header", params={"name": name, "value": "own"}), 500, "INTERNAL")
    assert len(logs("request_failed")) == 1


@pytest.mark.parametrize("status", [0, 99, 600, 999, 1000])
def test_response_with_an_invalid_status_is_500(start: Start, logs: Logs, status: int) -> None:
    """Clients treat such a status as a 5xx at best (RFC 9110, 15)."""
    assert_is_problem(start().get(f"/api/status/{status}"), 500, "INTERNAL")
    assert len(logs("request_failed")) == 1
    assert [entry["http.response.status_code"] for entry in logs("request_finished")] == [500]


def test_response_header_of_a_route_is_sent(start: Start) -> None:
    """A header value may contain a tab (RFC 9110, 5.5)."""
    assert start().get("/api/header", params={"name": "x-own", "value": "a\tb"}).headers["x-own"] == "a\tb"


# -- exceptions that end a process -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["here", "thread"])
@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
def test_exit_in_a_handler_is_500_and_the_service_continues(
    start: Start, logs: Logs, raised: Callable[[], BaseException], way: str
) -> None:
    """`sys.exit` ends the handler but not the service."""
    client = start({"leave": raising(raised)})
    assert_is_problem(client.get(f"/api/{way}/leave"), 500, "INTERNAL")
    assert len(logs("request_failed")) == 1
    assert [entry["http.response.status_code"] for entry in logs("request_finished")] == [500]
    assert client.get("/api/things/7").status_code == 200


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
def test_exit_in_a_hook_is_500_and_the_service_continues(
    start: Start, logs: Logs, raised: Callable[[], BaseException]
) -> None:
    """The hooks run before the framework."""

    def leave(context: Any, _headers: Any) -> None:
        if context.path == "/api/here/leave":
            raise raised()

    client = start(install=lambda chassis: chassis.before_request.append(leave))
    assert_is_problem(client.get("/api/here/leave"), 500, "INTERNAL")
    assert [entry["http.response.status_code"] for entry in logs("request_finished")] == [500]
    assert client.get("/api/things/7").status_code == 200


# -- outside of the framework ------------------------------------------------------------------------------------------


def test_crash_in_a_middleware_of_the_owner_is_500(start: Start, logs: Logs) -> None:
    """The crash is logged once with its traceback, and once in the access log."""
    assert_is_problem(start().get("/crash-in-middleware"), 500, "INTERNAL")
    assert len(logs("request_failed")) == 1
    assert [entry["http.response.status_code"] for entry in logs("request_finished")] == [500]


def test_http_exception_in_a_middleware_of_the_owner_has_its_status(start: Start, logs: Logs) -> None:
    """Such an exception is not logged as a failure of the service."""
    assert_is_problem(start().get("/refused-in-middleware"), 403, "PERMISSION_DENIED")
    assert logs("request_failed") == []
    assert [entry["http.response.status_code"] for entry in logs("request_finished")] == [403]


def test_redirect_raised_in_a_middleware_of_the_owner_is_not_a_failure(start: Start, logs: Logs) -> None:
    """Frameworks raise a redirect like an error. The response has no problem body."""
    response = start().get("/moved-in-middleware")
    assert (response.status_code, response.headers["location"], response.content) == (308, "/elsewhere", b"")
    assert logs("request_failed") == []


def test_debug_shows_nothing_to_the_caller(start: Start) -> None:
    """The framework's debug pages would show source code and variables."""
    client = start({"fail": raising(lambda: RuntimeError(SECRET))}, debug=True)
    assert_is_problem(client.get("/api/here/fail"), 500, "INTERNAL")
    assert_is_problem(client.get("/crash-in-middleware"), 500, "INTERNAL")
