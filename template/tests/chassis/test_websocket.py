"""WebSockets in rooms: which clients get a message, and which are closed because they are slow, too fast or expired."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from ..package import module
from .application import create_app
from .conftest import measured, settings_for_tests
from .process import PATIENCE_SECONDS, until
from .test_fastapi_websocket import closed
from .websocket import Served, serving

features = module("chassis.features")
errors = module("chassis.errors")
fastapi = module("chassis.web.fastapi")
broadcaster = module("chassis.websocket.broadcaster")
Principal = module("chassis.request_context").Principal

QUEUE = 10
MAX_MESSAGE_BYTES = 10_000
SETTINGS = {
    "websocket_queue_messages": QUEUE, "websocket_max_message_bytes": MAX_MESSAGE_BYTES,
    "websocket_max_messages_per_second": 5,
}  # fmt: skip
NOW = datetime(2030, 1, 1, tzinfo=UTC).timestamp()
# A few messages of this size overflow the buffers between a service and a client.
LARGE = "x" * 1_000_000
# A client with these options reads only as much as its test asks for.
STUCK = {"max_queue": 1, "max_size": None, "close_timeout": 0.1}


# -- the application ---------------------------------------------------------------------------------------------------

router = APIRouter()
GetChassis = Annotated[Any, Depends(fastapi.get_chassis)]


@router.websocket("/rooms/{room}")
async def chat(websocket: WebSocket, room: str, chassis: GetChassis, expires_at: datetime | None = None) -> None:
    """Send each message of a client to its room. Some messages are commands."""
    rooms = chassis.get(broadcaster.Broadcaster)
    async with rooms.join(websocket, room, expires_at=expires_at, subprotocol="chat") as connection:
        async for message in connection:
            match str(message).partition(" "):
                case ["join", _, other]:
                    connection.join(other)
                case ["odd", _, "join"]:
                    connection.join("\ud800")
                case ["odd", _, "text"]:
                    await rooms.send(room, "\ud800")
                case ["odd", _, "json"]:
                    await connection.send({"text": "\ud800"})
                case ["odd", _, "raw"]:
                    await websocket.send_json({"text": "\ud800"})
                case ["odd", _, _]:
                    await rooms.send("\ud800", message)
                case ["leave", _, other]:
                    connection.leave(other)
                case ["renew", _, when]:
                    connection.expire_at(datetime.fromtimestamp(float(when), UTC))
                case ["close", _, _]:
                    connection.close(4000, "as you wish")
                case ["bye", _, _]:
                    for number in range(QUEUE * 2):
                        await connection.send(number)
                    return
                case ["crash", _, _]:
                    raise RuntimeError
                case ["forbidden", _, _]:
                    raise errors.PermissionDeniedError
                case _:
                    await rooms.send(room, message)


@router.websocket("/silent")
async def be_silent(websocket: WebSocket, chassis: GetChassis) -> None:
    """Receive nothing."""
    async with chassis.get(broadcaster.Broadcaster).join(websocket, "silent"):
        await asyncio.sleep(10 * PATIENCE_SECONDS)


class Service(Served):
    """A service with the routes of this file."""

    def open(self, path: str, **options: Any) -> ClientConnection:
        return super().open(path, subprotocols=["chat"], compression="deflate", **options)

    def wait_until_empty(self) -> None:
        until(lambda: self.broadcaster.connections == 0)


@contextmanager
def serving_rooms(*chosen: str, **settings: Any) -> Iterator[Service]:
    """Serve the routes with these features, by default with the broadcaster alone. None of them opens the database."""
    url = getattr(features.ChassisSettings, "url_example", None)
    database = {} if url is None else {"database_url": url}
    # A fixture of the module runs before the environment of a test is set.
    with pytest.MonkeyPatch.context() as environment:
        for name in features.ChassisSettings.model_fields:
            environment.delenv(name.upper(), raising=False)
        names = ("logging.config", "web.headers", *(chosen or ("websocket.broadcaster",)))
        installed = [module(f"chassis.{name}") for name in names]
        app = create_app(settings_for_tests(**(database | SETTINGS | settings)), installed, {})
    app.include_router(router)
    with serving(app) as served:
        yield Service(**vars(served))


# -- the tests ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared() -> Iterator[Service]:
    with serving_rooms() as service:
        yield service


@pytest.fixture
def service(shared: Service) -> Iterator[Service]:
    """Return the service that all tests share. Its clock stands still."""
    shared.broadcaster.clock = lambda: NOW
    yield shared
    shared.wait_until_empty()
    assert shared.broadcaster.rooms == {}


def closed_by(service: Service, cause: str) -> float:
    return measured(service.chassis)["websocket.closed"][(cause,)]


def test_message_reaches_every_client_in_its_room_and_no_other(service: Service) -> None:
    with service.open("/rooms/news") as first, service.open("/rooms/news") as second, service.open("/rooms/b") as other:
        before = measured(service.chassis)["websocket.messages.sent"][()]
        first.send("hello")
        assert [client.recv(PATIENCE_SECONDS) for client in (first, second)] == ["hello", "hello"]
        service.send("news", b"\x00\xff")
        service.send("news", {"price": 1.5, "at": datetime(2030, 1, 1, tzinfo=UTC)})
        service.send("b", "for the other")
        service.send("empty", "for nobody")
        for client in (first, second):
            assert client.recv(PATIENCE_SECONDS) == b"\x00\xff"
            assert client.recv(PATIENCE_SECONDS) == '{"price":1.5,"at":"2030-01-01T00:00:00+00:00"}'
        assert other.recv(PATIENCE_SECONDS) == "for the other"
        numbers = measured(service.chassis)
        assert numbers["websocket.connections"][()] == 3
        until(lambda: measured(service.chassis)["websocket.messages.sent"][()] == before + 7)


def test_client_joins_and_leaves_rooms(service: Service) -> None:
    with service.open("/rooms/a") as client:
        client.send("join b")
        client.send("leave a")
        until(lambda: list(service.broadcaster.rooms) == ["b"])
        service.send("a", "not any more")
        service.send("b", "hello")
        assert client.recv(PATIENCE_SECONDS) == "hello"


def test_client_is_in_a_hundred_rooms_at_most(service: Service) -> None:
    service.broadcaster.clock = iter(range(10_000)).__next__
    with service.open("/rooms/0") as client:
        for number in range(101):
            client.send(f"join {number}")
        assert closed(client)[0] == 1008


def test_slow_client_is_closed_with_1013_and_delays_no_other(service: Service) -> None:
    before = closed_by(service, "slow")
    with service.open("/rooms/a", **STUCK) as slow, service.open("/rooms/a", max_size=None) as quick:
        for number in range(QUEUE * 3):
            service.send("a", LARGE + str(number))
            assert quick.recv(PATIENCE_SECONDS) == LARGE + str(number)
        assert closed_by(service, "slow") == before + 1
        assert len(service.broadcaster.rooms["a"]) == 1
        assert closed(slow) == (1013, "too many messages are waiting")


def test_burst_of_messages_closes_no_client_that_reads(service: Service) -> None:
    async def burst() -> None:
        for number in range(QUEUE * 10):
            await service.broadcaster.send("a", number)

    with service.open("/rooms/a") as client:
        service.call(burst)
        assert [client.recv(PATIENCE_SECONDS) for _ in range(QUEUE * 10)] == [str(n) for n in range(QUEUE * 10)]


def test_client_that_stops_reading_is_disconnected() -> None:
    """Its close frame would wait in the buffer of the server without limit."""
    settings = {"response_idle_timeout_seconds": 0.2, "websocket_ping_seconds": 1000}
    with serving_rooms(**settings) as service, service.open("/rooms/a", **STUCK):
        for _ in range(QUEUE * 3):
            service.send("a", LARGE)
        until(lambda: service.broadcaster.connections == 0)


def test_client_that_answers_no_ping_is_disconnected() -> None:
    handshake = (
        b"GET /rooms/a HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    with serving_rooms(websocket_ping_seconds=0.2) as service, socket.socket() as client:
        client.connect(("127.0.0.1", service.port))
        client.sendall(handshake)
        until(lambda: service.broadcaster.connections == 1)
        until(lambda: service.broadcaster.connections == 0)


def expiring(seconds: float) -> str:
    """Return the path of a room for a client whose credentials expire in so many seconds."""
    return f"/rooms/a?expires_at={NOW + seconds}"


def test_expired_credentials_close_the_connection_with_4401(service: Service) -> None:
    before = closed_by(service, "expired")
    with service.open(expiring(0.05)) as client, service.open(expiring(0.05)) as renewed, service.open("/rooms/a"):
        renewed.send(f"renew {NOW + 100}")
        renewed.send("hello")
        assert renewed.recv(PATIENCE_SECONDS) == "hello"
        service.broadcaster.clock = lambda: NOW + 1
        assert closed(client) == (4401, "the credentials have expired")
        until(lambda: len(service.broadcaster.rooms["a"]) == 2)
        renewed.send(f"renew {NOW}")
        assert closed(renewed)[0] == 4401
    assert closed_by(service, "expired") == before + 2


@pytest.fixture
def expiring_caller(service: Service) -> Iterator[None]:
    """Give each handshake credentials that expire soon, as an authenticator does."""

    def authenticate(context: Any, headers: Any) -> None:
        context.principal = Principal("ann", "test", expires_at=datetime.fromtimestamp(NOW + 0.05, UTC))

    hooks = service.chassis.before_request
    hooks.append(authenticate)
    yield
    hooks.remove(authenticate)


def test_connection_expires_with_the_credentials_of_its_handshake(service: Service, expiring_caller: None) -> None:
    """The expiry applies even if the handler passes no time. A time that the handler passes takes precedence."""
    with service.open("/rooms/a") as client, service.open(expiring(100)) as other:
        service.broadcaster.clock = lambda: NOW + 1
        assert closed(client)[0] == 4401
        other.send("hello")
        assert other.recv(PATIENCE_SECONDS) == "hello"


def rejected(service: Service, path: str) -> int:
    with pytest.raises(InvalidStatus) as raised, service.open(path):
        pass
    return raised.value.response.status_code


def test_handshake_with_expired_credentials_gets_401(service: Service) -> None:
    assert rejected(service, expiring(0)) == 401


def test_handshake_over_the_maximum_gets_503(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = service.broadcaster.settings.model_copy(update={"websocket_max_connections": 1})
    monkeypatch.setattr(service.broadcaster, "settings", limited)
    with service.open("/rooms/a"):
        assert rejected(service, "/rooms/a") == 503
    service.wait_until_empty()
    with service.open("/rooms/a"):
        pass


def test_client_that_sends_too_fast_is_closed_with_1008(service: Service) -> None:
    before = closed_by(service, "too_fast")
    with service.open("/rooms/a") as client:
        for number in range(5):
            client.send(str(number))
            assert client.recv(PATIENCE_SECONDS) == str(number)
        service.broadcaster.clock = lambda: NOW + 0.2  # one more message
        client.send("in time")
        assert client.recv(PATIENCE_SECONDS) == "in time"
        client.send("too fast")
        assert closed(client) == (1008, "too many messages per second")
    assert closed_by(service, "too_fast") == before + 1


def test_message_over_the_maximum_closes_the_connection_with_1009(service: Service) -> None:
    with service.open("/rooms/a") as client:
        client.send("x" * MAX_MESSAGE_BYTES)
        assert len(client.recv(PATIENCE_SECONDS)) == MAX_MESSAGE_BYTES
        client.send("x" * (MAX_MESSAGE_BYTES + 1))
        assert closed(client)[0] == 1009


def test_handler_that_ends_sends_the_queued_messages_first(service: Service) -> None:
    with service.open("/rooms/a") as client:
        client.send("bye")
        assert [client.recv(PATIENCE_SECONDS) for _ in range(QUEUE * 2)] == [str(n) for n in range(QUEUE * 2)]
        assert closed(client)[0] == 1000


@pytest.mark.parametrize("message", ["odd join", "odd send"])
def test_room_whose_name_is_not_valid_unicode_is_rejected(service: Service, message: str) -> None:
    """A client can send a lone surrogate as JSON. It is not an error of the service."""
    with service.open("/rooms/a") as client:
        client.send(message)
        assert closed(client)[0] == 1008
    with pytest.raises(errors.ValidationError, match="lone surrogate"):
        service.send("\ud800", "hello")


@pytest.mark.parametrize("message", ["odd text", "odd json", "odd raw"])
def test_message_that_is_not_valid_unicode_closes_the_connection_with_1008(service: Service, message: str) -> None:
    """A client can send a lone surrogate as JSON, and the handler sends it to others. It is invalid input."""
    with service.open("/rooms/a") as client, service.open("/rooms/a") as other:
        client.send(message)
        assert closed(client)[0] == 1008
        service.send("a", "hello")
        assert other.recv(PATIENCE_SECONDS) == "hello"


@pytest.mark.parametrize(("message", "code"), [("close", 4000), ("crash", 1011), ("forbidden", 1008)])
def test_handler_that_closes_or_fails_leaves_its_rooms(service: Service, message: str, code: int) -> None:
    with service.open("/rooms/a") as client, service.open("/rooms/a") as other:
        client.send(message)
        assert closed(client)[0] == code
        until(lambda: len(service.broadcaster.rooms["a"]) == 1)
        other.send("hello")
        assert other.recv(PATIENCE_SECONDS) == "hello"


def test_handler_that_does_not_receive_ends_after_its_client(service: Service) -> None:
    before = closed_by(service, "slow")
    with service.open("/silent") as client:
        client.socket.shutdown(socket.SHUT_RDWR)

    def is_gone() -> bool:
        service.send("silent", "hello")
        return bool(service.broadcaster.connections == 0)

    until(is_gone)
    assert closed_by(service, "slow") == before


def test_handshake_of_another_origin_gets_403(service: Service) -> None:
    with pytest.raises(InvalidStatus) as raised, service.open("/rooms/a", origin="https://evil.example"):
        pass
    assert raised.value.response.status_code == 403


def test_messages_are_not_compressed_for_each_client(service: Service) -> None:
    with service.open("/rooms/a") as client:
        assert client.subprotocol == "chat"
        assert "sec-websocket-extensions" not in client.response.headers


@pytest.mark.parametrize(("message", "error"), [(object(), TypeError), ("\ud800", UnicodeEncodeError)])
def test_message_that_cannot_be_sent_is_an_error_of_the_sender(
    service: Service, message: object, error: type[Exception]
) -> None:
    with service.open("/rooms/a") as client:
        with pytest.raises(error):
            service.send("a", message)
        service.send("a", "hello")
        assert client.recv(PATIENCE_SECONDS) == "hello"


def test_message_reaches_two_hundred_clients_of_one_process(service: Service) -> None:
    """`benchmarks/rooms.py` of the template has a thousand."""

    async def receive_all() -> list[str | bytes]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            url = f"ws://127.0.0.1:{service.port}/rooms/a"
            clients = [await connect(url, subprotocols=["chat"]) for _ in range(200)]
            await asyncio.to_thread(service.send, "a", "hello")
            messages = [await client.recv() for client in clients]
            await asyncio.gather(*(client.close() for client in clients))
        return messages

    assert asyncio.run(receive_all()) == ["hello"] * 200


def test_shutdown_closes_every_connection_with_1012() -> None:
    """A client that does not read does not delay it."""
    with ExitStack() as clients:
        with serving_rooms(response_idle_timeout_seconds=0.2, shutdown_timeout_seconds=PATIENCE_SECONDS) as service:
            clients.enter_context(service.open("/rooms/a", **STUCK))
            for _ in range(QUEUE - 1):
                service.send("a", LARGE)
            client = clients.enter_context(service.open("/rooms/b"))
            began = time.monotonic()
        assert time.monotonic() - began < PATIENCE_SECONDS / 2
        assert closed(client)[0] == 1012
