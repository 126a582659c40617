"""WebSockets of two processes that share one Redis."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from ..package import module
from .conftest import measured
from .process import PATIENCE_SECONDS, until
from .redis import BRIEFLY_SECONDS, RedisServer, redis_server
from .test_websocket import Service, errors, serving_rooms


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def pair(server: RedisServer) -> Iterator[tuple[Service, Service]]:
    # A busy machine must not look like an outage, and the test of a server that hangs waits this long once.
    settings = {"redis_url": server.url, "redis_timeout_seconds": 2, "health_check_cache_seconds": 0}
    chosen = ("redis", "websocket.redis")
    with serving_rooms(*chosen, **settings) as one, serving_rooms(*chosen, **settings) as other:
        yield one, other


@pytest.fixture
def services(pair: tuple[Service, Service], server: RedisServer) -> Iterator[tuple[Service, Service]]:
    """Return two services that are subscribed in Redis, and that can publish."""
    yield pair
    server.restore()
    names = ("cache", "websocket")
    until(lambda: {check(service, name)["status"] for service in pair for name in names} == {"ok"})


def check(service: Service, name: str = "websocket") -> Any:
    return httpx.get(f"http://127.0.0.1:{service.port}/health").json()["checks"][name]


def status(service: Service) -> str:
    return str(check(service)["status"])


def unpublished(service: Service) -> float:
    return measured(service.chassis)["websocket.messages.unpublished"][()]


@pytest.mark.parametrize("message", ["hello\nworld", "", b"\x00\n\xff"])
def test_message_reaches_the_clients_of_both_services_once(services: tuple[Service, Service], message: Any) -> None:
    one, other = services
    with one.open("/rooms/a%0A") as near, other.open("/rooms/a%0A") as far, other.open("/rooms/b") as stranger:
        one.send("a\n", message)
        other.send("b", "last")
        assert [client.recv(PATIENCE_SECONDS) for client in (near, far, stranger)] == [message, message, "last"]
        other.send("a\n", "from the other")
        assert [client.recv(PATIENCE_SECONDS) for client in (near, far)] == ["from the other"] * 2


def test_room_whose_name_is_not_valid_unicode_is_rejected(services: tuple[Service, Service]) -> None:
    """The name is part of the message in Redis."""
    with pytest.raises(errors.ValidationError, match="lone surrogate"):
        services[0].send("\ud800", "hello")


def test_clients_of_one_service_get_its_messages_without_redis(
    services: tuple[Service, Service], server: RedisServer
) -> None:
    one, other = services
    with one.open("/rooms/a") as near, other.open("/rooms/a") as far:
        server.kill()
        until(lambda: status(one) == "error")
        found = check(one)
        assert found["critical"] is False
        assert found["error"] == "not subscribed in Redis; messages of other processes are missing"
        before = unpublished(one)
        one.send("a", "near only")
        assert near.recv(PATIENCE_SECONDS) == "near only"
        assert unpublished(one) == before + 1
        server.restore()
        until(lambda: [status(one), status(other), check(one, "cache")["status"]] == ["ok"] * 3)
        one.send("a", "both")
        assert [client.recv(PATIENCE_SECONDS) for client in (near, far)] == ["both", "both"]


def test_redis_that_hangs_is_noticed_and_delays_no_message(
    services: tuple[Service, Service], server: RedisServer
) -> None:
    one, _ = services
    connection = one.chassis.get(module("chassis.redis").RedisConnection)

    async def notice() -> None:
        fanout = module("chassis.websocket.redis").RedisFanout(connection, one.broadcaster, silence_seconds=0.2)
        async with asyncio.timeout(PATIENCE_SECONDS), fanout.lifespan():
            await fanout.subscribed.wait()
            server.freeze()
            while fanout.subscribed.is_set():
                await asyncio.sleep(0.01)

    with one.open("/rooms/a") as near:
        one.call(notice)
        began = time.monotonic()
        for number in range(100):
            one.send("a", number)
        assert [near.recv(PATIENCE_SECONDS) for _ in range(100)] == [str(number) for number in range(100)]
        assert time.monotonic() - began < BRIEFLY_SECONDS


def subscribers(server: RedisServer) -> set[bytes]:
    return set(re.findall(rb"\bid=(\d+)", server.admin("CLIENT", "LIST", "TYPE", "pubsub")))


def test_message_of_another_program_is_ignored(services: tuple[Service, Service], server: RedisServer) -> None:
    one, other = services
    before = subscribers(server)
    with other.open("/rooms/a") as far:
        for message in (b"", b"x", b"[1]\nx", b'["", "a", false]\n\xff', b'{"a": 1}\n', b"[1, [], true]\nx"):
            server.admin("PUBLISH", "demo:websocket", message)
        one.send("a", "hello")
        assert far.recv(PATIENCE_SECONDS) == "hello"
    assert subscribers(server) <= before
