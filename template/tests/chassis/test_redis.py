"""The connection to Redis: health, outages, refused writes, and connections that are closed."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from ..package import module
from ..servers.redis import connections
from .conftest import Logs, Start, settings_for_tests
from .process import PATIENCE_SECONDS, until
from .redis import DEFAULT_TIMEOUT, RedisServer, redis_server

THINGS = "/api/things/1"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def new_connection(server: RedisServer, **values: Any) -> Any:
    """Return a connection as the feature creates it. Use and close it in one event loop."""
    settings = settings_for_tests(redis_url=server.url, **values)
    connection = module("chassis.redis").RedisConnection(settings, settings.service_name)
    connection.probes.append(("PING",))
    return connection


async def eventually(call: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat a call until it returns something, and return that."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            if found := await call():
                return found
            await asyncio.sleep(0.01)


def test_service_starts_without_redis(start: Start, server: RedisServer) -> None:
    """Redis is not critical, so the service starts without it."""
    server.kill()
    client = start(redis_url=server.url, health_check_cache_seconds=0, **DEFAULT_TIMEOUT)
    assert client.get("/health/ready").status_code == 200
    assert client.get(THINGS).status_code == 200
    found = client.get("/health").json()["checks"]["cache"]
    assert (found["status"], found["error"], found["critical"]) == ("error", "unreachable", False)
    assert found["details"]["backend"] == "redis"
    server.restore()
    until(lambda: client.get("/health").json()["checks"]["cache"]["status"] == "ok")


def require_password(server: RedisServer) -> None:
    server.configure(requirepass="secret")
    disconnect(server)


def disconnect(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url, password="secret") as client:
        client.client_kill_filter(_type="normal", skipme=True)


REFUSALS: dict[str, Callable[[RedisServer], None]] = {
    "READONLY": lambda server: server.set_read_only(True),
    "MISCONF": RedisServer.fail_to_save,
    "OOM": lambda server: server.configure(maxmemory=1),
    "NOPERM": lambda server: server.admin("ACL", "SETUSER", "default", "-set", "-evalsha"),
    "NOAUTH": require_password,
}


@pytest.mark.parametrize("cause", REFUSALS)
def test_cause_of_an_outage_is_in_every_health_report_and_once_in_the_log(
    start: Start, server: RedisServer, logs: Logs, monkeypatch: Any, cause: str
) -> None:
    """Some commands succeed, and the circuit breaker keeps trying, but no report says that Redis works."""
    monkeypatch.setattr(module("chassis.redis"), "_RECOVERY_SECONDS", 0.001)
    client = start(redis_url=server.url, health_check_cache_seconds=0)

    def found() -> dict[str, Any]:
        assert client.get(THINGS).status_code == 200
        time.sleep(0.002)  # the next call is a trial call of the circuit breaker
        return client.get("/health").json()["checks"]["cache"]  # type: ignore[no-any-return]

    assert found()["status"] == "ok"
    REFUSALS[cause](server)
    reports = [found() for _ in range(16)]
    assert {report["error"] for report in reports} == {module("chassis.redis").PROBLEMS[cause]}
    assert {report["details"]["cause"] for report in reports} == {cause}
    assert [entry["cause"] for entry in logs("circuit_changed")] == [cause]


def test_user_with_the_documented_permissions_is_enough(start: Start, server: RedisServer) -> None:
    """The service needs no permission to name its connection or protocol, whatever its own name."""
    page = (Path(__file__).parents[2] / "docs/options/redis.md").read_text(encoding="utf-8")
    for command in re.findall("ACL SETUSER .+", page):
        server.admin(*command.split())
    url = server.url.replace("//", "//orders:password@")
    client = start(redis_url=url, redis_namespace="orders", service_name="Order Service é")
    client.get(THINGS)
    checks = client.get("/health").json()["checks"]
    found = [checks[name]["error"] for name in ("cache", "rate_limit", "websocket") if name in checks]
    assert [error for error in found if error] == []
    assert server.admin("ACL", "LOG") == []


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (redis.exceptions.BusyLoadingError("Redis is loading", status_code="LOADING"), "LOADING"),
        (redis.exceptions.AuthenticationError("invalid username-password pair", status_code="WRONGPASS"), "WRONGPASS"),
        (redis.ResponseError("ERR max number of clients reached", status_code="ERR"), "MAXCLIENTS"),
        (redis.ConnectionError("Error 1 connecting to redis:6379. [SSL] record layer failure"), "TLS"),
        (redis.ConnectionError("Error 111 connecting to redis:6379. Connection refused."), "ConnectionError"),
        (redis.ResponseError("hunter2 is an unknown reply"), "ResponseError"),
        (TimeoutError(), "TimeoutError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_cause_is_the_code_of_the_reply_or_the_type_of_the_error(error: Exception, cause: str) -> None:
    assert module("chassis.redis").cause_of(error) == cause


def test_cluster_is_named_at_start(start: Start, logs: Logs) -> None:
    """The service starts, and the log and the report name the cause."""
    with redis_server("--cluster-enabled", "yes") as server:
        client = start(redis_url=server.url)
        assert [entry["cause"] for entry in logs("circuit_changed")] == ["CLUSTERDOWN"]
        assert "Redis Cluster" in client.get("/health").json()["checks"]["cache"]["error"]


def test_reply_that_comes_too_late_is_not_read_by_another_call(server: RedisServer) -> None:
    """A call that timed out leaves its reply on the connection, which must not be reused."""

    async def ask() -> None:
        connection = new_connection(server, redis_pool_size=1, **DEFAULT_TIMEOUT)
        async with connection.lifespan():

            async def get(key: str) -> Any:
                return await connection.call("GET", lambda: connection.client.get(key), None)

            for key in ("one", "two"):
                await eventually(lambda key=key: connection.call("SET", lambda: connection.client.set(key, key), False))
            server.freeze()
            assert await get("one") is None
            server.restore()
            assert await eventually(lambda: get("two")) == b"two"

    asyncio.run(ask())


def test_connections_close_at_shutdown_and_after_an_outage(server: RedisServer) -> None:
    """No connection leaks, however often Redis hangs."""

    async def open_and_close() -> None:
        connection = new_connection(server)
        async with connection.lifespan():
            assert await connection.probe()
            assert connection.call_sync("PING", connection.sync_client.ping, False)
            assert connections(server.url) == 2

    async def survive_outages() -> None:
        connection = new_connection(server, **DEFAULT_TIMEOUT)
        async with connection.lifespan():
            for _ in range(3):
                server.freeze()
                for _ in range(20):
                    await connection.call("GET", lambda: connection.client.get("key"), None)
                    await asyncio.sleep(0.05)
                server.restore()
                await eventually(connection.probe)
            until(lambda: connections(server.url) == 1)

    asyncio.run(open_and_close())
    until(lambda: connections(server.url) == 0)
    asyncio.run(survive_outages())
    until(lambda: connections(server.url) == 0)


def test_waiting_for_a_connection_is_not_an_outage(server: RedisServer) -> None:
    """Many calls at once may wait for a slot longer than the timeout of a single call."""

    async def flood() -> list[Any]:
        connection = new_connection(server, redis_pool_size=2, redis_timeout_seconds=0.5)
        async with connection.lifespan():

            async def slow() -> bool:
                await asyncio.sleep(0.1)
                return bool(await connection.client.ping())

            began = time.monotonic()
            found = await asyncio.gather(*(connection.call("slow", slow, None) for _ in range(20)))
            assert time.monotonic() - began > 0.9
            return found

    assert asyncio.run(flood()) == [True] * 20


def test_busy_event_loop_is_not_an_outage(server: RedisServer) -> None:
    """A reply that waits in the socket while the event loop is blocked counts as in time."""

    def block() -> None:
        time.sleep(1.2)

    async def block_the_loop() -> None:
        connection = new_connection(server, redis_timeout_seconds=1)
        async with connection.lifespan():
            assert await connection.probe()  # the connection is open
            # Redis replies after 0.2 s, with 0.
            call = asyncio.create_task(connection.call("WAIT", lambda: connection.client.wait(1, 200), None))
            await asyncio.sleep(0.05)  # the command is sent
            block()
            assert await call == 0
            assert connection.problem is None

    asyncio.run(block_the_loop())


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://:hunter2@cache", "is not a Redis URL; use the form redis://127.0.0.1:6379/0"),
        ("redis://:hunter2@cache:port/0", "is not a Redis URL; use the form redis://127.0.0.1:6379/0"),
        ("redis://:hunter2@cache/0?patience=9", "has a parameter that the Redis client does not accept; remove it"),
    ],
)
def test_invalid_redis_url_is_rejected_without_its_password(url: str, problem: str) -> None:
    """The error names the variable and the remedy."""
    with pytest.raises(module("chassis.settings").SettingsError) as rejected:
        settings_for_tests(redis_url=url)
    assert f"REDIS_URL: {problem}" in str(rejected.value)
    assert "hunter2" not in str(rejected.value)
