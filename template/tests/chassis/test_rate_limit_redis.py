"""Rate limits in Redis: exact for all processes, and open while Redis is unavailable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..package import module
from ..servers.redis import connect
from .conftest import FAULTS, Start, settings_for_tests
from .process import serving, until
from .redis import DEFAULT_TIMEOUT, WINDOW, Break, RedisServer, briefly, redis_server

THINGS = "/api/things/1"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def checks(client: httpx.Client) -> Any:
    return client.get("/health").json()["checks"]


def test_parallel_requests_to_two_processes_get_exactly_the_limit(server: RedisServer, tmp_path: Path) -> None:
    """Two processes that count the same client together serve exactly the limit."""
    limit = f"100/{WINDOW}"
    with (
        serving(tmp_path, *FAULTS, REDIS_URL=server.url, RATE_LIMIT_DEFAULT=limit) as one,
        serving(tmp_path, *FAULTS, REDIS_URL=server.url, RATE_LIMIT_DEFAULT=limit) as other,
        one.client() as to_one,
        other.client() as to_other,
        ThreadPoolExecutor(16) as pool,
    ):
        clients = [to_one, to_other] * 150
        statuses = list(pool.map(lambda client: client.get(THINGS).status_code, clients))
    assert statuses.count(200) == 100
    assert statuses.count(429) == 200


def test_each_response_shows_what_all_processes_have_left(start: Start, server: RedisServer) -> None:
    """Requests are counted one by one."""
    clients = [start(redis_url=server.url, rate_limit_default=f"1000/{WINDOW}") for _ in range(2)]
    headers = [clients[number % 2].get(THINGS).headers["ratelimit"] for number in range(30)]
    assert [int(header.split("r=")[1].split(";")[0]) for header in headers] == list(range(999, 969, -1))


@pytest.mark.parametrize("windows_ago", [0, 1, 2])
@pytest.mark.parametrize(("current", "previous"), [(0, 0), (3, 0), (10, 0), (0, 10), (4, 9), (10, 10), (9, 1)])
def test_script_counts_as_the_limit_defines(windows_ago: int, current: int, previous: int) -> None:
    """The script and the definition agree for requests in this window, the last one and the one before."""
    limit = module("chassis.rate_limit").Limit.parse("default", f"10/{WINDOW}")
    settings = settings_for_tests()
    connection = module("chassis.redis").RedisConnection(settings, settings.service_name)
    window, elapsed_seconds = divmod(time.time(), limit.seconds)
    left_seconds = limit.seconds - elapsed_seconds
    with connect(settings.redis_url.get_secret_value()) as client:
        state = {"w": int(window) - windows_ago, "n": current, "p": previous}
        client.hset(f"{connection.namespace}:rate:default:client", mapping=state)

    async def hit() -> Any:
        async with connection.lifespan():
            return await module("chassis.rate_limit.redis").RedisStore(connection).hit("client", limit)

    result = asyncio.run(hit())
    current, previous = ((current, previous), (0, current), (0, 0))[windows_ago]
    free = limit.free(current, previous, left_seconds)
    assert result.allowed == (free >= 1)
    assert result.remaining == max(0, free - 1)
    expected = left_seconds if free >= 1 else limit.wait_seconds(current, previous, left_seconds)
    assert result.reset_seconds == pytest.approx(expected, abs=60)


@pytest.mark.parametrize("broken", [RedisServer.kill, RedisServer.freeze], ids=["stopped", "frozen"])
def test_rate_limit_without_redis_fails_open_and_recovers(start: Start, server: RedisServer, broken: Break) -> None:
    """No client is rejected, and /health is degraded. When Redis is back, limits apply again without a restart."""
    client = start(
        redis_url=server.url, rate_limit_default=f"2/{WINDOW}", health_check_cache_seconds=0,
        peer="10.0.0.1", trusted_proxies=["10.0.0.1"], **DEFAULT_TIMEOUT,
    )  # fmt: skip

    def statuses(address: str, times: int) -> list[int]:
        return [client.get(THINGS, headers={"x-forwarded-for": address}).status_code for _ in range(times)]

    def is_healthy() -> bool:
        found = checks(client)
        return all(found[name]["status"] == "ok" for name in ("cache", "rate_limit"))

    until(is_healthy)
    until(lambda: "ratelimit" in client.get(THINGS).headers)
    broken(server)
    assert briefly(lambda: statuses("203.0.113.1", 5)) == [200] * 5
    assert client.get("/health/ready").status_code == 200
    report = briefly(lambda: client.get("/health"))
    assert (report.status_code, report.json()["status"]) == (200, "degraded")
    found = checks(client)
    assert found["rate_limit"]["status"] == "warning"
    assert found["rate_limit"]["details"]["failed_open"] >= 5
    assert found["cache"]["details"]["state"] in ("open", "half_open")
    server.restore()
    until(is_healthy)
    until(lambda: statuses("203.0.113.1", 1) == [429])
