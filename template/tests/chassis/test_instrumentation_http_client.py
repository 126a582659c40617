"""The calls to other services that observers of operations get, asynchronous and synchronous."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import stamina

from ..package import module
from .calling import clients, running
from .conftest import Logs, settings_for_tests
from .upstream import Upstream, cut, serving_upstream, status

errors = module("chassis.errors")
FEATURES = [module("chassis.logging.config"), module("chassis.http_client")]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with serving_upstream() as serving, stamina.set_testing(True, attempts=2):
        yield serving


Call = Callable[..., httpx.Response]


@pytest.fixture
def calls(upstream: Upstream) -> Iterator[Callable[..., Call]]:
    """Return a factory of functions that call the upstream, with these observers. Other arguments are settings."""
    with ExitStack() as stack:

        def connect(*observers: Any, **settings: Any) -> Call:
            chassis = module("chassis.app").build(settings_for_tests(**settings), FEATURES)
            chassis.operation_observers.extend(observers)
            client = clients.add_http_client(chassis, "prices", upstream.url)
            call = stack.enter_context(running(chassis))
            return lambda *arguments, **content: call(lambda: client.request(*arguments, **content))

        yield connect


def test_call_is_reported_without_its_query(calls: Callable[..., Call], upstream: Upstream) -> None:
    """Attributes follow the stable semantic conventions. The other service receives the span id as parent."""
    operations: list[Any] = []
    current = module("chassis.request_context")
    call = calls(operations.append)
    token = current.bind(current.new_context("GET", "/"))
    call("get", "/prices", params={"key": "hunter2"})
    current.reset(token)
    (operation,) = operations
    port = int(upstream.url.rpartition(":")[2])
    assert operation.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": port,
        "url.full": f"{upstream.url}/prices",
    }
    assert (operation.kind, operation.name, operation.error) == ("http", "GET", None)
    assert operation.duration_seconds > 0
    assert upstream.received[0].headers["traceparent"].split("-")[2] == operation.span_id


def test_each_try_is_reported(calls: Callable[..., Call], upstream: Upstream) -> None:
    """An attempt has an error if the connection broke or the other service is unavailable."""
    operations: list[Any] = []
    upstream.respond(cut, status(503))
    with pytest.raises(errors.UnavailableError):
        calls(operations.append)("GET", "/prices")
    assert [type(operation.error).__name__ for operation in operations] == ["RemoteProtocolError", "HTTPStatusError"]
    assert [operation.attributes.get("http.response.status_code") for operation in operations] == [None, 503]
    assert len({operation.span_id for operation in operations}) == 2


def test_response_of_a_client_error_is_reported_without_an_error(
    calls: Callable[..., Call], upstream: Upstream
) -> None:
    operations: list[Any] = []
    upstream.respond(status(404))
    assert calls(operations.append)("GET", "/prices").status_code == 404
    assert [(each.attributes["http.response.status_code"], each.error) for each in operations] == [(404, None)]


def test_call_that_takes_too_long_is_reported_with_a_timeout(calls: Callable[..., Call], upstream: Upstream) -> None:
    operations: list[Any] = []
    over = threading.Event()
    upstream.respond(lambda request: over.wait(60) and None)
    with pytest.raises(errors.UnavailableError):
        calls(operations.append, http_client_timeout_seconds=0.2)("GET", "/prices")
    over.set()
    assert {type(operation.error).__name__ for operation in operations} == {"ReadTimeout"}


def test_observer_that_fails_does_not_fail_the_call(calls: Callable[..., Call], logs: Logs) -> None:
    def fail(operation: Any) -> None:
        raise RuntimeError

    assert calls(fail)("GET", "/prices").status_code == 200
    assert len(logs("operation_observer_failed")) == 1
