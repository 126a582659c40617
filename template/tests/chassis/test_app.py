"""The chassis object: features, resources and their order, and the application for a server."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import CodeType, FrameType, SimpleNamespace
from typing import Any

import httpx
import pytest
import stamina

from ..package import CHASSIS, module
from .application import create_app
from .conftest import Logs, Start, settings_for_tests
from .in_process import open_client

app_module = module("chassis.app")
FEATURES = module("chassis.features").FEATURES


class Pool:
    """A feature with a resource that records when it is opened and closed."""

    def __init__(self, name: str, events: list[str]) -> None:
        self.name, self._events = name, events

    def install(self, chassis: Any) -> None:
        chassis.provide(self)
        chassis.lifespans.append((self.name, self.open))

    @contextmanager
    def open(self) -> Iterator[None]:
        self._events.append(f"{self.name} opened")
        yield
        self._events.append(f"{self.name} closed")


class AsyncPool(Pool):
    """A feature whose resource is opened on the event loop."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:  # type: ignore[override]
        self._events.append(f"{self.name} opened")
        yield
        self._events.append(f"{self.name} closed")


def test_resources_open_in_order_and_close_in_reverse_order(logs: Logs) -> None:
    """Each opening is logged once. `service_started` follows the last opening, `service_stopped` the last closing."""
    events: list[str] = []
    features = (*FEATURES, Pool("pool", events), AsyncPool("client", events))
    with open_client(create_app(settings_for_tests(), features, {})):
        steps = [entry.get("dependency", entry["event"]) for entry in logs()]
        assert steps[-3:] == ["pool", "client", "service_started"]
    assert events == ["pool opened", "client opened", "client closed", "pool closed"]
    assert logs()[-1]["event"] == "service_stopped"


def test_features_are_logged_by_their_modules(logs: Logs) -> None:
    """A feature that is an object has the name of the module of its class."""
    create_app(settings_for_tests(), (*FEATURES, Pool("pool", [])), {})
    *installed, own = logs("features_installed")[0]["features"]
    assert [module(f"chassis.{name}").__name__.partition("chassis.")[2] for name in installed] == installed
    assert own == __name__.partition("chassis.")[2]


def test_root_path_of_the_server_is_not_part_of_the_path(logs: Logs) -> None:
    """The path of an ASGI request contains the root path. Probes, routes and limits use the path without it."""
    asgi = app_module.asgi_app(create_app(settings_for_tests(), FEATURES, {}))

    async def respond() -> list[httpx.Response]:
        transport = httpx.ASGITransport(asgi, root_path="/shop")
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost/shop") as client:
            paths = ("/health/live", "/api/things/7", "/api/things/rare/7")
            return [await client.get(path) for path in paths] + [await client.delete("/api/things/7")]

    live, thing, rare, deleted = asyncio.run(respond())
    assert live.status_code == 200
    assert thing.json()["thing_id"] == 7
    assert set(deleted.headers["allow"].split(", ")) >= {"GET", "HEAD"}
    assert logs("request_finished")[0]["url.path"] == "/api/things/7"
    if (CHASSIS / "rate_limit").is_dir():
        assert ";q=2;" in rare.headers["ratelimit-policy"]


def test_retry_at_start_is_logged_with_the_resource_and_without_the_text_of_its_error(logs: Logs) -> None:
    """The text of a driver's error may contain a host or a user name."""

    class Unready(Pool):
        @contextmanager
        def open(self) -> Iterator[None]:
            if not self._events:
                self._events.append("failed")
                raise module("chassis.errors").UnavailableError("hunter2")
            yield

    features = (*FEATURES, Unready("queue", []))
    with stamina.set_testing(True, attempts=2), open_client(create_app(settings_for_tests(), features, {})):
        (entry,) = (entry for entry in logs() if "retry" in entry["event"])
    assert (entry["event"], entry["operation"], entry["cause"]) == (
        "retry_scheduled", "open queue", "UnavailableError",
    )  # fmt: skip
    assert "hunter2" not in str(logs())


def test_threads_of_a_client_end_without_tracing() -> None:
    """Otherwise, `make test` can hang on CPython 3.11."""
    called: list[CodeType] = []

    def trace(frame: FrameType, event: str, value: object) -> None:
        called.append(frame.f_code)

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with open_client(create_app(settings_for_tests(), FEATURES, {})) as client:
            client.get("/")
        restored = sys.gettrace()
    finally:
        sys.settrace(before)
    assert restored is trace
    assert httpx.Client.get.__code__ in called
    assert threading.Thread.join.__code__ not in called


def test_provided_object_is_found_by_its_type(start: Start) -> None:
    """A type that was not provided is named in the error."""
    found: list[Any] = []
    start(install=found.append)
    (chassis,) = found
    pool = Pool("pool", [])
    chassis.provide(pool)
    assert chassis.get(Pool) is pool
    assert chassis.get_or_provide(list) is chassis.get_or_provide(list)
    with pytest.raises(LookupError, match="set was not provided"):
        chassis.get(set)


def test_settings_as_a_class_that_is_not_included_is_a_type_error(start: Start) -> None:
    """A feature without its settings fails when it is installed, not in a request."""

    class Other(module("chassis.settings").BaseChassisSettings):  # type: ignore[misc]
        pass

    with pytest.raises(TypeError, match="does not inherit from"):
        start(install=lambda chassis: chassis.settings_as(Other))


@pytest.mark.parametrize("function", ["chassis_of", "asgi_app"])
def test_application_without_a_chassis_is_rejected(function: str) -> None:
    """The error says what to call."""
    with pytest.raises(LookupError, match="call install"):
        getattr(app_module, function)(SimpleNamespace())


def test_chassis_is_an_attribute_of_its_application() -> None:
    app = create_app(settings_for_tests(), FEATURES, {})
    assert app_module.chassis_of(app) is app.chassis  # type: ignore[union-attr]


def test_before_request_hook_gets_the_request_and_all_its_headers(start: Start) -> None:
    """The hook gets headers by lower-case name. It may be a coroutine function and runs before the route."""
    seen: list[Any] = []

    async def hook(context: Any, headers: Any) -> None:
        seen.append((context.path, dict(headers), headers["x-tenant"], headers.get("x-other")))

    client = start(install=lambda chassis: chassis.before_request.append(hook))
    sent = {"X-Tenant": "acme", "Authorization": "Bearer a", "Cookie": "a=1; b=2", "X-API-Key": "k"}
    assert client.get("/api/things/7", headers=sent).status_code == 200
    ((path, headers, tenant, other),) = seen
    assert (path, tenant, other) == ("/api/things/7", "acme", None)
    assert headers.items() >= {name.lower(): value for name, value in sent.items()}.items()


def test_before_request_hook_that_raises_rejects_the_request(start: Start) -> None:
    """The route does not run."""
    errors = module("chassis.errors")
    served: list[bool] = []

    def hook(context: Any, headers: Any) -> None:
        raise errors.UnauthenticatedError

    client = start({"serve": lambda: served.append(True)}, install=lambda chassis: chassis.before_request.append(hook))
    response = client.get("/api/here/serve")
    assert (response.status_code, response.json()["error_code"]) == (401, "UNAUTHENTICATED")
    assert served == []


def test_request_observer_sees_each_request_once_with_status_and_route(start: Start, logs: Logs) -> None:
    """Observers also see rejected requests, but not health probes. One that fails does not change the response."""
    seen: list[tuple[int, str | None]] = []

    def observe(context: Any) -> None:
        seen.append((context.status, context.route))
        raise RuntimeError

    client = start({"crash": lambda: 1 // 0}, install=lambda chassis: chassis.request_observers.append(observe))
    for path in ("/api/things/7", "/api/here/crash", "/nowhere", "/health/live"):
        client.get(path)
    client.get("/api/things/7", headers={"host": "other.invalid"})
    assert seen == [(200, "/api/things/{thing_id}"), (500, "/api/here/{name}"), (404, None), (400, None)]
    assert len(logs("request_observer_failed")) == 4


def test_handshake_on_a_server_without_error_responses_for_websockets_is_closed() -> None:
    """Other ASGI servers may lack the extension `websocket.http.response`, and serve WebSockets for every framework."""
    sent: list[str] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asgi = module("chassis.app").asgi_app(create_app(settings_for_tests(), module("chassis.features").FEATURES, {}))
    asyncio.run(asgi({"type": "websocket", "path": "/", "headers": [(b"host", b"localhost")]}, receive, send))
    assert sent == ["websocket.close"]


def test_response_header_of_a_feature_is_on_every_response(start: Start) -> None:
    """Error responses and health probes have the header as well."""
    client = start(install=lambda chassis: chassis.response_headers.update({"x-tenant": "acme"}))
    for path in ("/api/things/7", "/nowhere", "/crash-in-middleware", "/health/live"):
        assert client.get(path).headers["x-tenant"] == "acme"


@pytest.mark.parametrize(("method", "path", "found"), [
    ("GET", "/api/things/7", True), ("POST", "/api/things", True), ("DELETE", "/api/things", False),
    ("GET", "/nowhere", False),
])  # fmt: skip
def test_route_table_resolves_what_the_framework_serves(start: Start, method: str, path: str, found: bool) -> None:
    """Features find an endpoint, and what is declared on it, before the framework has chosen the route."""
    chassis: list[Any] = []
    start(install=chassis.append)
    assert (chassis[0].routes.resolve(method, path) is not None) == found
    assert "/api/things/" in [prefix for prefix, _ in chassis[0].routes.prefixes()]
