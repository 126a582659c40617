"""The Flask adapter: documented behaviour of Flask also works in the service."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from flask import abort
from werkzeug.exceptions import Forbidden

from ..package import module
from .application import create_app
from .conftest import FAULTS, Logs, Start, settings_for_tests
from .in_process import open_client
from .process import serving, until
from .test_errors import assert_is_problem

FEATURES = module("chassis.features").FEATURES


def test_test_client_of_flask_works_without_the_middleware() -> None:
    """Flask's test client reaches the routes, but the middleware adds no ids, headers or limits."""
    app = create_app(settings_for_tests(), FEATURES, {})
    client = app.test_client()
    assert client.get("/api/things/7?limit=3").get_json() == {"thing_id": 7, "limit": 3}
    assert client.post("/api/things", json={"name": "x"}).status_code == 201
    response = client.get("/nowhere")
    assert (response.status_code, response.mimetype) == (404, "application/problem+json")


def test_before_request_hook_of_flask_that_aborts_is_a_problem() -> None:
    """The hook runs inside Flask, and its error has the same form as that of a route."""
    app = create_app(settings_for_tests(), FEATURES, {})
    app.before_request(lambda: abort(403))
    with open_client(app) as client:
        assert_is_problem(client.get("/api/things/7"), 403, "PERMISSION_DENIED")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_number_in_a_path_with_too_many_digits_for_python_is_not_found(method: str) -> None:
    """Python refuses to convert more than 4,300 digits to an integer. This limit can be lowered to 640."""
    app = create_app(settings_for_tests(), FEATURES, {})
    for known in ("GET", "DELETE"):
        app.add_url_rule("/numbers/<int:number>", known, lambda number: str(number), methods=[known])
    with open_client(app) as client:
        assert client.request(method, f"/numbers/{'9' * 640}").status_code == 200
        assert_is_problem(client.request(method, f"/numbers/{'9' * 5000}"), 404, "NOT_FOUND")


def test_http_exception_in_a_before_request_hook_has_its_status(start: Start, logs: Logs) -> None:
    def refuse(*_: object) -> None:
        raise Forbidden

    client = start(install=lambda chassis: chassis.before_request.append(refuse))
    assert_is_problem(client.get("/api/things/7"), 403, "PERMISSION_DENIED")
    assert logs("request_failed") == []


def test_error_handler_of_flask_is_used() -> None:
    """The owner's handler for an exception takes precedence over the chassis."""
    app = create_app(settings_for_tests(), FEATURES, {"fail": lambda: 1 // 0})
    app.register_error_handler(ZeroDivisionError, lambda error: ("handled", 418))
    with open_client(app) as client:
        response = client.get("/api/here/fail")
        assert (response.status_code, response.text) == (418, "handled")
        assert response.headers["x-request-id"]


def test_path_and_query_of_a_request_reach_flask_decoded(start: Start, logs: Logs) -> None:
    """Flask sees the path and query as WSGI servers decode them (PEP 3333)."""
    start().get("/api/stra%C3%9Fe?token=hunter2")
    (entry,) = logs("request_finished")
    assert entry["url.path"] == "/api/straße"


def test_shutdown_abandons_a_thread_of_a_pool_that_hangs(folder: Path) -> None:
    """Python would wait for the pool without limit. The exit code is 0, and the log says what happened."""
    limits = {"SHUTDOWN_DRAIN_SECONDS": "0", "SHUTDOWN_TIMEOUT_SECONDS": "1", "REQUEST_TIMEOUT_SECONDS": "600"}
    with serving(folder, *FAULTS, **limits) as process, process.connect() as connection:
        connection.sendall(b"GET /api/task/wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: process.events("waiting"))
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
        assert len(process.events("threads_abandoned")) == 1
