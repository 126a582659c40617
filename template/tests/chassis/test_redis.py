"""Redis: what is shared, and what becomes of the service while Redis is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from ..package import module
from ..servers.redis import connections
from ..servers.redis import start as start_redis
from .cache_calls import open_cache
from .conftest import Logs, Start, settings_for_tests
from .process import until

THINGS = "/api/things/1"
# Far more than a call may take, far less than a request may: a busy machine is no fault of the service.
BRIEFLY_SECONDS = 15
# What a service has by default; the other tests have more, as a busy machine is no outage. With this it may be one at
# any moment, so that what needs Redis is tried until it is there.
IMPATIENT = {"cache_timeout_seconds": 0.1}
# A window that does not end while a test runs: of what was handed out ahead nothing is left in the next one.
FOREVER = "9999 days"

Break = Callable[["Redis"], None]


class Redis:
    """A server of this test's own, because it is about to suffer."""

    def __init__(self) -> None:
        self.process, self.url = start_redis()

    def kill(self) -> None:
        self.process.stop()

    def freeze(self) -> None:
        self.process.freeze()

    def mend(self) -> None:
        """Take back what was done to it."""
        self.process.thaw()
        self.process.bring_back()


@pytest.fixture
def server() -> Iterator[Redis]:
    server = Redis()
    yield server
    server.process.remove()


def quickly(call: Callable[[], Any]) -> Any:
    """Return what a call returns, in time."""
    began = time.monotonic()
    answer = call()
    assert time.monotonic() - began < BRIEFLY_SECONDS
    return answer


def checks(client: httpx.Client) -> Any:
    return client.get("/health").json()["checks"]


def is_well(client: httpx.Client) -> bool:
    found = checks(client)
    return all(found[name]["status"] == "ok" for name in ("cache", "rate_limit"))


def test_processes_share_what_is_kept(server: Redis) -> None:
    """A value that one keeps or deletes is kept or deleted for the other."""
    settings = settings_for_tests(redis_url=server.url)
    with open_cache(settings) as one, open_cache(settings) as other:
        assert one.set("key", {"price": 7}, 60)
        assert other.get("key") == {"price": 7}
        assert other.delete("key")
        assert one.get("key") is None


@pytest.mark.parametrize("count", [10, 200])
def test_processes_share_the_counts(start: Start, server: Redis, count: int) -> None:
    """Two together serve a client no more than the limit, and little less where some of it was handed out ahead."""
    clients = [start(redis_url=server.url, rate_limit_default=f"{count}/{FOREVER}") for _ in range(2)]
    served = sum(clients[number % 2].get(THINGS).status_code == 200 for number in range(count + 20))
    assert served == count


def test_a_busy_client_costs_few_questions(start: Start, server: Redis) -> None:
    """What may still be sent is handed out a twentieth at a time."""
    client = start(redis_url=server.url, rate_limit_default=f"1000/{FOREVER}")
    remaining = [int(client.get(THINGS).headers["ratelimit"].split("r=")[1].split(";")[0]) for _ in range(30)]
    assert remaining == list(range(999, 969, -1))
    with open_cache(settings_for_tests(redis_url=server.url)) as cache:
        assert cache.ping()["backend"] == "redis"


@pytest.mark.parametrize("broken", [Redis.kill, Redis.freeze], ids=["gone", "frozen"])
def test_a_cache_that_is_away_fails_open_and_comes_back(server: Redis, broken: Break, logs: Logs) -> None:
    """Every call ends in time with nothing; afterwards it is found again, without a restart."""
    settings = settings_for_tests(redis_url=server.url, **IMPATIENT)
    module("chassis.logging").configure(settings)
    with open_cache(settings) as cache:
        until(lambda: cache.set("key", 1, 60))
        broken(server)
        assert quickly(lambda: cache.get("key")) is None
        assert quickly(lambda: cache.set("key", 2, 60)) is False
        assert quickly(lambda: cache.delete("key")) is False
        assert quickly(lambda: cache.get_or_compute("key", lambda: 3, 60)) == 3
        # Only one call in a while waits for it.
        assert quickly(lambda: [cache.get("key") for _ in range(1000)]) == [None] * 1000
        server.mend()
        until(lambda: cache.set("key", 4, 60))
        until(lambda: cache.get("key") == 4)
    changes = logs("circuit_changed")
    assert {line["dependency"] for line in changes} == {"redis"}
    # Once, and on a busy machine some times more; no trial in between has a line.
    assert [line["state"] for line in changes] == ["open", "closed"] * max(1, len(changes) // 2)
    assert changes[0]["level"] == "warning"


@pytest.mark.parametrize("broken", [Redis.kill, Redis.freeze], ids=["gone", "frozen"])
def test_without_redis_the_service_is_degraded_not_dead(start: Start, server: Redis, broken: Break) -> None:
    """Nobody is refused, and /health says so; when Redis is back everything is as before."""
    client = start(
        redis_url=server.url, rate_limit_default="2/hour", health_check_interval_seconds=0,
        peer="10.0.0.1", trusted_proxies=["10.0.0.1"], **IMPATIENT,
    )  # fmt: skip

    def statuses(address: str, times: int) -> list[int]:
        return [client.get(THINGS, headers={"x-forwarded-for": address}).status_code for _ in range(times)]

    until(lambda: is_well(client))
    until(lambda: "ratelimit" in client.get(THINGS).headers)
    broken(server)
    assert quickly(lambda: statuses("203.0.113.1", 5)) == [200] * 5
    assert client.get("/health/ready").status_code == 200
    report = quickly(lambda: client.get("/health"))
    assert (report.status_code, report.json()["status"]) == (200, "degraded")
    found = checks(client)["cache"]
    assert (found["status"], found["error"], found["critical"]) == ("error", "cannot be reached", False)
    assert found["details"]["state"] in ("open", "half_open")
    assert checks(client)["rate_limit"]["status"] == "warning"
    assert checks(client)["rate_limit"]["details"]["let_through"] >= 5
    server.mend()
    until(lambda: is_well(client))
    until(lambda: statuses("203.0.113.1", 1) == [429])


def test_the_service_starts_without_redis(start: Start, server: Redis) -> None:
    """A cache is no reason not to start."""
    server.kill()
    client = start(redis_url=server.url, **IMPATIENT)
    assert client.get("/health/ready").status_code == 200
    assert client.get(THINGS).status_code == 200
    server.mend()
    until(lambda: "ratelimit" in client.get(THINGS).headers)


def test_connections_are_given_back(server: Redis) -> None:
    """When the service stops, and none is left over from an outage."""
    with open_cache(settings_for_tests(redis_url=server.url, **IMPATIENT)) as watcher:
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(open_cache(settings_for_tests(redis_url=server.url))).set("key", 1, 60)
            assert connections(server.url) >= 3
        watcher.ping()
        until(lambda: connections(server.url) <= 1)
        for _ in range(3):
            server.freeze()
            for _ in range(20):
                watcher.get("key")
                time.sleep(0.05)
            server.mend()
            until(lambda: watcher.set("key", 1, 60))
        until(lambda: connections(server.url) <= 2)


def test_an_address_that_is_none_is_refused() -> None:
    """With the variable and the remedy, and without the value, which may hold a password."""
    with pytest.raises(module("chassis.settings").SettingsError) as refused:
        settings_for_tests(redis_url="http://:hunter2@cache")
    assert "REDIS_URL: is no URL of Redis; write it like redis://127.0.0.1:6379/0" in str(refused.value)
    assert "hunter2" not in str(refused.value)
