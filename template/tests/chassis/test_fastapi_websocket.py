"""WebSockets: handshakes are treated like requests, and a connection is logged, reported and observed once.

As a program, this file serves the application that its tests connect to.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from fastapi import APIRouter, HTTPException, Query, WebSocket
from starlette.responses import JSONResponse
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from ..package import CHASSIS, module
from .application import create_app as create_application
from .conftest import Logs, settings_for_tests
from .process import PATIENCE_SECONDS, Process, serving
from .test_connections import status_of

SERVER = ("tests.chassis.test_fastapi_websocket", "serve")
MAX_MESSAGE_BYTES = 10_000
APP_ORIGIN = "https://app.example.com"

features = module("chassis.features")
errors = module("chassis.errors")
log = structlog.get_logger("orders")


# -- the application ---------------------------------------------------------------------------------------------------

router = APIRouter(prefix="/sockets")


@router.websocket("/echo/{name}")
async def echo(websocket: WebSocket, name: str) -> None:
    """Send back each message until the client disconnects."""
    await websocket.accept("chat" if "chat" in websocket.scope["subprotocols"] else None, [(b"x-name", name.encode())])
    log.info("socket_accepted", url=str(websocket.url), client=websocket.client)
    while True:
        await websocket.send_text(await websocket.receive_text())


async def accept(websocket: WebSocket) -> None:
    await websocket.accept()


@router.websocket("/ticks")
async def tick(websocket: WebSocket) -> None:
    """Send without receiving until the client disconnects."""
    await websocket.accept()
    while True:
        await websocket.send_text("tick")
        await asyncio.sleep(0.01)


@router.websocket("/reads/{kind}")
async def read(websocket: WebSocket, kind: str) -> None:
    """Read one message."""
    await websocket.accept()
    if kind == "binary":
        await websocket.receive_json("binary")
    elif kind == "stored":
        await websocket.receive_text()
        json.loads("{")
    elif kind == "iterated":
        async for _ in websocket.iter_json():
            pass
    else:
        await getattr(websocket, f"receive_{kind}")()


@router.websocket("/fails/{way}")
async def fail(websocket: WebSocket, way: str) -> None:
    if not way.startswith("early-"):
        await websocket.accept()
    way = way.removeprefix("early-")
    if way == "crash":
        raise RuntimeError("password=hunter2")
    if way == "exit":
        raise SystemExit
    if way == "not-found":
        raise errors.NotFoundError()
    if way == "bad-request":
        raise errors.BadRequestError()
    if way == "unauthenticated":
        raise HTTPException(401)
    if way == "close-reserved":
        await websocket.close(1005)
    if way == "close":
        await websocket.close(4321, "my reason")
    if way == "close-long":
        await websocket.close(4321, "é" * 100)
    if way == "close-surrogate":
        await websocket.close(4321, "a\ud800b")
    if way == "header":
        await websocket.accept(headers=[(b"x-bad", b"a\nb")])
        while True:
            await websocket.send_text("tick")
    if way == "denial":
        await websocket.send_denial_response(JSONResponse({"reason": "mine"}, 409))
    if way == "slow":
        await asyncio.sleep(PATIENCE_SECONDS)


@router.websocket("/numbers")
async def accept_number(websocket: WebSocket, number: int = Query()) -> None:
    await websocket.accept()
    await websocket.send_json(number)


def _observe(context: Any) -> None:
    error = context.error and type(context.error).__name__
    log.info("observed", route=context.route, status=context.status, seconds=context.duration_seconds, error=error)


def _report(cause: BaseException, error_id: str, context: Any) -> None:
    log.info("reported", cause=type(cause).__name__, error_id=error_id)


def _hook(context: Any, headers: Any) -> None:
    if "x-refused" in headers:
        raise errors.UnauthenticatedError()


def install(chassis: Any) -> None:
    chassis.request_observers.append(_observe)
    chassis.error_reporters.append(_report)
    chassis.before_request.append(_hook)


def create_app() -> Any:
    settings = module("chassis.settings").load(features.ChassisSettings)
    app = create_application(settings, (*features.FEATURES, SimpleNamespace(__name__="test", install=install)), {})
    if (CHASSIS / "rate_limit").is_dir():
        router.websocket("/rare")(module("chassis.rate_limit").rate_limit("2/minute")(accept))
    outer = APIRouter(prefix="/api")
    outer.include_router(router)
    app.include_router(outer)
    return app


# -- the tests ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    settings = {
        "CORS_ALLOWED_ORIGINS": APP_ORIGIN, "MAX_REQUEST_BODY_BYTES": str(MAX_MESSAGE_BYTES),
        "REQUEST_TIMEOUT_SECONDS": "1", "RATE_LIMIT_DEFAULT": "1000/minute", "TRUSTED_PROXIES": "127.0.0.1",
        "LOG_LEVEL": "DEBUG",
    }  # fmt: skip
    with serving(tmp_path_factory.mktemp("websockets"), *SERVER, **settings) as process:
        yield process


def opened(server: Process, path: str, **headers: str) -> AbstractContextManager[ClientConnection]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return connect(f"ws://127.0.0.1:{server.port}{path}", additional_headers=sent, open_timeout=PATIENCE_SECONDS)


def rejected(server: Process, path: str, **headers: str) -> Any:
    with pytest.raises(InvalidStatus) as raised, opened(server, path, **headers):
        pass
    return raised.value.response


def closed(connection: ClientConnection) -> tuple[int, str]:
    """Read until the server closes the connection, and return its code and reason."""

    def read() -> None:
        while True:
            connection.recv(PATIENCE_SECONDS)

    with pytest.raises(ConnectionClosed) as raised:
        read()
    frame = raised.value.rcvd
    assert frame is not None, "the connection ended without a close frame"
    return frame.code, frame.reason


def opened_in_process(app: Any, path: str) -> list[Any]:
    """Open a WebSocket and disconnect without a server, and return what the application sent."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def connect_and_disconnect() -> None:
        received: asyncio.Queue[Any] = asyncio.Queue()
        received.put_nowait({"type": "websocket.connect"})
        received.put_nowait({"type": "websocket.disconnect", "code": 1000})
        headers = [(b"host", b"localhost")]
        scope = {"type": "websocket", "path": path, "query_string": b"", "headers": headers, "subprotocols": []}
        await module("chassis.app").asgi_app(app)(scope, received.get, send)

    asyncio.run(connect_and_disconnect())
    return sent


def of_request(server: Process, event: str, request_id: str) -> list[dict[str, Any]]:
    return [entry for entry in server.events(event) if entry["request_id"] == request_id]


def test_websocket_that_has_ended_is_logged_and_observed_once(server: Process) -> None:
    with opened(server, "/api/sockets/echo/a?token=hunter4", X_Request_ID="ends") as connection:
        connection.send("x" * MAX_MESSAGE_BYTES)
        assert connection.recv(PATIENCE_SECONDS) == "x" * MAX_MESSAGE_BYTES
        assert of_request(server, "request_finished", "ends") == []
    entry = server.finished("ends")
    assert entry["http.response.status_code"] == 101
    assert entry["http.request.method"] == "GET"
    assert entry["http.route"] == "/api/sockets/echo/{name}"
    assert entry["url.path"] == "/api/sockets/echo/a"
    assert entry["duration_ms"] > 0
    (observed,) = of_request(server, "observed", "ends")
    assert (observed["route"], observed["status"], observed["error"]) == (entry["http.route"], 101, None)
    assert observed["seconds"] > 0
    (accepted,) = of_request(server, "socket_accepted", "ends")
    assert accepted["trace_id"] == entry["trace_id"]
    assert of_request(server, "request_failed", "ends") == []
    others = [line for line in server.lines if line.get("request_id") == "ends" and line["logger"] != "orders"]
    assert others == [entry]


def test_handshake_response_has_the_headers_of_every_response(server: Process) -> None:
    with connect(f"ws://127.0.0.1:{server.port}/api/sockets/echo/a", subprotocols=["chat"]) as connection:
        assert connection.subprotocol == "chat"
        headers = connection.response.headers
    assert len(headers["x-request-id"]) == 32
    assert headers["x-name"] == "a"
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers


@pytest.mark.parametrize(("path", "headers", "status", "code"), [
    ("/api/sockets/echo/a", {"Origin": "https://evil.example"}, 403, "PERMISSION_DENIED"),
    ("/api/sockets/echo/a", {"Origin": "null"}, 403, "PERMISSION_DENIED"),
    ("/api/sockets/echo/a", {"X_Refused": "yes"}, 401, "UNAUTHENTICATED"),
    ("/api/sockets/nowhere", {}, 404, "NOT_FOUND"),
    ("/api/sockets/numbers?number=seven", {}, 400, "BAD_REQUEST"),
    ("/api/sockets/fails/early-return", {}, 403, "PERMISSION_DENIED"),
    ("/api/sockets/fails/early-close", {}, 403, "PERMISSION_DENIED"),
    ("/api/sockets/fails/early-not-found", {}, 404, "NOT_FOUND"),
    ("/api/sockets/fails/early-unauthenticated", {}, 401, "UNAUTHENTICATED"),
    ("/refused-in-middleware", {}, 403, "PERMISSION_DENIED"),
    ("/api/sockets/echo/a", {"Padding": "x" * 9000}, 431, "HEADERS_TOO_LARGE"),
    ("/api/sockets/echo/a", {f"Padding-{n}": "x" for n in range(150)}, 431, "HEADERS_TOO_LARGE"),
    ("/api/sockets/echo/a", {"Padding": "x" * 70_000}, 431, "HEADERS_TOO_LARGE"),
    ("/api/sockets/echo/a?" + "x" * 9000, {}, 431, "HEADERS_TOO_LARGE"),
], ids=str)  # fmt: skip
def test_rejected_handshake_gets_an_error_response(
    server: Process, path: str, headers: dict[str, str], status: int, code: str, request: pytest.FixtureRequest
) -> None:
    request_id = f"rejected-{abs(hash(request.node.name))}"
    response = rejected(server, path, X_Request_ID=request_id, **headers)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-frame-options"] == "DENY"
    problem = json.loads(response.body)
    assert (problem["status"], problem["error_code"], problem["request_id"]) == (status, code, request_id)
    assert server.finished(request_id)["http.response.status_code"] == status
    assert of_request(server, "request_failed", request_id) == []


def test_handshake_for_another_host_is_rejected(server: Process) -> None:
    handshake = (
        b"GET /api/sockets/echo/a HTTP/1.1\r\nHost: evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    assert status_of(server.exchange(handshake)) == 400
    # Only the last of two headers asks for the upgrade, or only the first.
    upgrade = b"Connection: Upgrade\r\n"
    for connection in (b"Connection: close\r\n" + upgrade, upgrade + b"Connection: close\r\n"):
        assert status_of(server.exchange(handshake.replace(upgrade, connection))) == 400


@pytest.mark.parametrize("origin", ["http://127.0.0.1:{port}", "https://127.0.0.1:{port}", APP_ORIGIN])
def test_handshake_from_an_allowed_origin_is_accepted(server: Process, origin: str) -> None:
    with opened(server, "/api/sockets/echo/a", Origin=origin.format(port=server.port)):
        pass


def test_handshake_behind_a_proxy_has_its_client_and_scheme(server: Process) -> None:
    """Some proxies write `wss` in X-Forwarded-Proto."""
    forwarded = {"X_Forwarded_For": "203.0.113.7", "X_Forwarded_Proto": "wss", "X_Request_ID": "p"}
    with opened(server, "/api/sockets/echo/a", **forwarded) as connection:
        assert "strict-transport-security" in connection.response.headers
    assert server.finished("p")["client.address"] == "203.0.113.7"
    (accepted,) = of_request(server, "socket_accepted", "p")
    assert accepted["url"].startswith("wss://")
    assert accepted["client"][0] == "203.0.113.7"


@pytest.mark.skipif(not (CHASSIS / "rate_limit").is_dir(), reason="the feature rate-limit was not chosen")
def test_handshakes_over_the_limit_of_their_route_get_429(server: Process) -> None:
    for _ in range(2):
        with opened(server, "/api/sockets/rare") as connection:
            assert connection.response.headers["ratelimit"].startswith('"')
    response = rejected(server, "/api/sockets/rare")
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) > 0


def test_deadline_is_for_the_handshake_and_not_for_the_connection(server: Process) -> None:
    with opened(server, "/api/sockets/echo/a") as connection:
        assert rejected(server, "/api/sockets/fails/early-slow").status_code == 504
        connection.send("hello")
        assert connection.recv(PATIENCE_SECONDS) == "hello"


@pytest.mark.parametrize(("way", "cause"), [
    ("crash", "RuntimeError"), ("exit", "RuntimeError"), ("close-reserved", "ProtocolError"),
    ("early-crash", "RuntimeError"), ("early-header", "ValueError"),
])  # fmt: skip
def test_handler_that_fails_is_reported_once(server: Process, way: str, cause: str) -> None:
    """The client gets 1011, or 500 if the handler has not accepted."""
    if way.startswith("early-"):
        response = rejected(server, f"/api/sockets/fails/{way}", X_Request_ID=way)
        assert response.status_code == 500
        assert "hunter2" not in response.body.decode()
    else:
        with opened(server, f"/api/sockets/fails/{way}", X_Request_ID=way) as connection:
            assert closed(connection) == (1011, "")
    server.finished(way)
    (failed,) = of_request(server, "request_failed", way)
    (reported,) = of_request(server, "reported", way)
    (observed,) = of_request(server, "observed", way)
    assert (reported["cause"], reported["error_id"], observed["error"]) == (cause, failed["error_id"], cause)
    assert cause in failed["exception"]
    assert {line["event"] for line in server.lines if line["level"] == "error"} == {"request_failed"}


@pytest.mark.parametrize(("way", "code"), [
    ("not-found", 1008), ("unauthenticated", 1008), ("bad-request", 1007), ("return", 1000), ("close", 4321),
])  # fmt: skip
def test_handler_that_ends_the_connection_is_not_a_failure(server: Process, way: str, code: int) -> None:
    with opened(server, f"/api/sockets/fails/{way}", X_Request_ID=way) as connection:
        assert closed(connection)[0] == code
    server.finished(way)
    assert of_request(server, "request_failed", way) == []
    assert [entry["error"] for entry in of_request(server, "observed", way)] == [None]


@pytest.mark.parametrize(("kind", "message"), [
    ("json", "{"), ("json", "[" * 5000), ("json", "1" * 5000), ("json", b"{}"), ("iterated", ""),
    ("binary", b"\xff"), ("binary", "{}"), ("text", b"tea"), ("bytes", "tea"),
], ids=lambda value: repr(value)[:8])  # fmt: skip
def test_malformed_message_closes_the_connection_with_1007(
    server: Process, kind: str, message: str | bytes, request: pytest.FixtureRequest
) -> None:
    """The client caused the error: it is neither logged nor reported, and the status of the response stays 101."""
    request_id = f"malformed-{abs(hash(request.node.name))}"
    with opened(server, f"/api/sockets/reads/{kind}", X_Request_ID=request_id) as connection:
        connection.send(message)
        assert closed(connection) == (1007, "")
    assert server.finished(request_id)["http.response.status_code"] == 101
    assert of_request(server, "request_failed", request_id) == []
    assert of_request(server, "reported", request_id) == []


def test_malformed_data_of_the_service_is_a_failure(server: Process) -> None:
    with opened(server, "/api/sockets/reads/stored", X_Request_ID="stored") as connection:
        connection.send("tea")
        assert closed(connection)[0] == 1011
    server.finished("stored")
    assert len(of_request(server, "request_failed", "stored")) == 1


@pytest.mark.parametrize(("way", "reason"), [
    ("close", "my reason"), ("close-long", "é" * 61), ("close-surrogate", "a?b"),
])  # fmt: skip
def test_close_reason_is_shortened_to_the_close_frame(server: Process, way: str, reason: str) -> None:
    """A close frame has room for a reason of 123 bytes, which must be valid UTF-8."""
    with opened(server, f"/api/sockets/fails/{way}") as connection:
        assert closed(connection) == (4321, reason)


def test_response_of_a_handler_to_a_handshake_is_sent(server: Process) -> None:
    response = rejected(server, "/api/sockets/fails/early-denial", X_Request_ID="denial")
    assert (response.status_code, json.loads(response.body)) == (409, {"reason": "mine"})
    assert response.headers["x-request-id"] == "denial"
    assert server.finished("denial")["http.response.status_code"] == 409


@pytest.mark.parametrize("path", ["/api/sockets/echo/a", "/api/sockets/ticks"])
def test_message_over_the_limit_closes_the_connection_with_1009(server: Process, path: str) -> None:
    request_id = f"large{path.replace('/', '-')}"
    with opened(server, path, X_Request_ID=request_id) as connection:
        with suppress(ConnectionClosed):  # the last frame may be sent after the server has closed
            connection.send(["x" * MAX_MESSAGE_BYTES, "x"])
        assert closed(connection)[0] == 1009
    server.finished(request_id)
    assert of_request(server, "request_failed", request_id) == []


def test_text_that_is_not_utf_8_closes_the_connection_with_1007(server: Process) -> None:
    failures = len([line for line in server.lines if line["level"] == "error"])
    with opened(server, "/api/sockets/echo/a", X_Request_ID="utf-8") as connection:
        connection.send(b"\xff", text=True)
        assert closed(connection)[0] == 1007
    server.finished("utf-8")
    assert len([line for line in server.lines if line["level"] == "error"]) == failures


@pytest.mark.parametrize("path", ["/api/sockets/echo/a", "/api/sockets/ticks"])
def test_client_that_disappears_is_not_a_failure(server: Process, path: str) -> None:
    request_id = f"gone{path.replace('/', '-')}"
    with opened(server, path, X_Request_ID=request_id) as connection:
        connection.socket.shutdown(socket.SHUT_RDWR)
        assert server.finished(request_id)["http.response.status_code"] == 101
    assert of_request(server, "request_failed", request_id) == []
    assert [entry["error"] for entry in of_request(server, "observed", request_id)] == [None]


def test_health_path_responds_to_a_handshake_as_to_a_get_request(server: Process) -> None:
    assert rejected(server, "/health/live").status_code == 200


def test_headers_and_messages_are_not_logged(server: Process) -> None:
    """They are not logged even with LOG_LEVEL=DEBUG."""
    path = "/api/sockets/echo/a?key=hunter5"
    with opened(server, path, Authorization="hunter6", X_Request_ID="secrets") as connection:
        connection.send("hunter7")
    server.finished("secrets")
    logged = str([line for line in server.lines if line["event"] != "socket_accepted"])
    assert [secret for secret in ("hunter5", "hunter6", "hunter7") if secret in logged] == []


def test_shutdown_closes_websockets_with_1012(tmp_path_factory: pytest.TempPathFactory) -> None:
    with serving(tmp_path_factory.mktemp("shutdown"), *SERVER, SHUTDOWN_DRAIN_SECONDS="0") as process:
        receiving = opened(process, "/api/sockets/echo/a", X_Request_ID="receiving")
        sending = opened(process, "/api/sockets/ticks", X_Request_ID="sending")
        with receiving as first, sending as second:
            process.send(signal.SIGTERM)
            assert [closed(connection)[0] for connection in (first, second)] == [1012, 1012]
        assert process.exit_code() == 0
        for request_id in ("receiving", "sending"):
            assert process.finished(request_id)["http.response.status_code"] == 101
        assert [line for line in process.lines if line["level"] in ("warning", "error")] == []


def test_handshake_during_the_drain_is_accepted() -> None:
    """During shutdown, other responses have `Connection: close`, which would contradict the upgrade."""
    app = create_application(settings_for_tests(), features.FEATURES, {})
    app.websocket("/socket")(accept)
    app.chassis.lifecycle.drain()
    sent = opened_in_process(app, "/socket")
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert b"connection" not in dict(sent[0]["headers"])


@pytest.mark.skipif(not (CHASSIS / "monitoring/opentelemetry.py").is_file(), reason="opentelemetry was not chosen")
@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/sockets/echo/a", 101, None),
        ("/sockets/fails/crash", 101, "RuntimeError"),
        ("/sockets/fails/early-crash", 500, "RuntimeError"),
        ("/sockets/fails/early-not-found", 404, None),
    ],
)
def test_websocket_is_one_span_from_its_handshake_to_its_end(
    logs: Logs, path: str, status: int, error: str | None
) -> None:
    sdk = import_module("opentelemetry.sdk.trace")
    exported = import_module("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()
    chosen = {"otel_exporter_otlp_endpoint": "http://localhost", "otel_traces_sampler": "always_on"}
    app = create_application(settings_for_tests(**chosen), features.FEATURES, {})
    app.include_router(router)
    processor = sdk.export.SimpleSpanProcessor(exported)
    app.chassis.get(sdk.TracerProvider).add_span_processor(processor)
    opened_in_process(app, path)
    (span,), (entry,) = exported.get_finished_spans(), logs("request_finished")
    assert span.name == f"GET {entry['http.route']}"
    assert (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}") == (entry["trace_id"], entry["span_id"])
    assert (span.attributes["http.response.status_code"], span.attributes.get("error.type")) == (status, error)
    assert [event.name for event in span.events] == (["exception"] if error else [])


if __name__ == "__main__":
    cli = module("chassis.cli")
    program = cli.Program(f"{SERVER[0]}:create_app", features.ChassisSettings, features.FEATURES, features.serve)
    raise SystemExit(cli.main(program))
