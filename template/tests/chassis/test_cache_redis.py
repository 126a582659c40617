"""The cache in Redis: values that processes share, and its behaviour while Redis is unavailable."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..package import module
from .cache_calls import open_cache
from .conftest import Logs, settings_for_tests
from .process import until
from .redis import DEFAULT_TIMEOUT, Break, RedisServer, briefly, redis_server


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def test_processes_share_cached_values(server: RedisServer) -> None:
    """If one process stores or deletes a value, the other one sees the change."""
    settings = settings_for_tests(redis_url=server.url)
    with open_cache(settings) as one, open_cache(settings) as other:
        assert one.set("key", {"price": 7}, 60)
        assert other.get("key") == {"price": 7}
        assert other.delete("key")
        assert one.get("key") is None


def test_namespaces_and_versions_do_not_share_keys(server: RedisServer) -> None:
    """Two services, or two formats of a value, may use the same key."""
    url = server.url
    settings = settings_for_tests(redis_url=url)
    others = [
        settings_for_tests(redis_url=url, redis_namespace="x"),
        settings_for_tests(redis_url=url, cache_version="2"),
    ]
    with open_cache(settings) as cache:
        cache.set("key", 1, 60)
        for other in others:
            with open_cache(other) as opened:
                assert opened.get("key") is None
        assert cache.get("key") == 1


@pytest.mark.parametrize("broken", [RedisServer.kill, RedisServer.freeze], ids=["stopped", "frozen"])
def test_cache_without_redis_misses_and_recovers(server: RedisServer, broken: Break, logs: Logs) -> None:
    """Every call ends in time without an error. When Redis is back, no restart is needed."""
    settings = settings_for_tests(redis_url=server.url, **DEFAULT_TIMEOUT)
    module("chassis.logging.config").configure(settings)
    with open_cache(settings) as cache:
        until(lambda: cache.set("key", 1, 60))
        broken(server)
        assert briefly(lambda: cache.get("key")) is None
        assert briefly(lambda: cache.set("key", 2, 60)) is False
        assert briefly(lambda: cache.delete("key")) is False
        assert briefly(lambda: cache.get_or_compute("key", lambda: 3, 60)) == 3
        # Only one call per half second waits for the timeout.
        assert briefly(lambda: [cache.get("key") for _ in range(1000)]) == [None] * 1000
        server.restore()
        until(lambda: cache.set("key", 4, 60))
        until(lambda: cache.get("key") == 4)
    changes = logs("circuit_changed")
    assert {entry["dependency"] for entry in changes} == {"redis"}
    # One pair of entries per outage, or more on a busy machine. Failed trials in between are not logged.
    assert [entry["state"] for entry in changes] == ["open", "closed"] * max(1, len(changes) // 2)
    assert changes[0]["level"] == "warning"
