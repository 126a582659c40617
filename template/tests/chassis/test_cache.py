"""The cache: the values that it stores, their expiry, and how often a value is computed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from .cache_calls import CacheCalls, open_cache
from .conftest import measured, settings_for_tests
from .process import PATIENCE_SECONDS, until

Open = Callable[..., CacheCalls]


@pytest.fixture
def cached() -> Iterator[Open]:
    """Open the cache of a service with these settings."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(open_cache(settings_for_tests(**settings)))


@pytest.mark.parametrize(
    "value",
    [{"price": 7.5, "tags": ["a", "ü"]}, [1, None, True], "text", 7, 0, "", None, False, b"", b"\x00\xff", b"jno JSON"],
    ids=repr,
)
def test_json_and_bytes_are_returned_unchanged(cached: Open, value: Any) -> None:
    """None, false and empty are values too."""
    cache = cached()
    missing = object()
    assert cache.get("key", missing) is missing
    assert cache.set("key", value, 60)
    assert cache.get("key", missing) == value
    assert type(cache.get("key")) is type(value)
    assert cache.get_or_compute("key", lambda: pytest.fail("computed again"), 60) == value
    assert cache.delete("key")
    assert not cache.delete("key")
    assert cache.get("key", missing) is missing


def test_lookups_are_counted_once_as_hits_or_misses(cached: Open) -> None:
    """A computation reads the cache twice, which counts as one lookup."""
    cache = cached()
    for _ in range(3):
        cache.get_or_compute("key", lambda: 7, 60)
    cache.get("unknown")
    assert measured(cache.chassis)["cache.lookups"] == {("hit",): 2, ("miss",): 2}


def test_value_that_json_cannot_hold_raises(cached: Open) -> None:
    """Caching a set, for example, is a programming error."""
    with pytest.raises(TypeError):
        cached().set("key", {1, 2}, 60)


def test_change_of_a_returned_value_does_not_change_the_cache(cached: Open) -> None:
    """The cache returns copies."""
    cache = cached()
    cache.set("key", [1], 60)
    cache.get("key").append(2)
    assert cache.get("key") == [1]


def test_value_expires_after_its_time_to_live(cached: Open) -> None:
    """A value does not expire before its time to live is over."""
    cache, began = cached(), time.monotonic()
    cache.set("short", 1, 0.2)
    cache.set("long", 1, 600)
    until(lambda: cache.get("short") is None)
    assert time.monotonic() - began > 0.19  # the clocks of two processes, in whole milliseconds
    assert cache.get("long") == 1


@pytest.mark.parametrize(("ttl_seconds", "jitter"), [(0, 0), (-1, 0), (1, 1), (1, -0.1)])
def test_invalid_time_to_live_or_jitter_raises(cached: Open, ttl_seconds: float, jitter: float) -> None:
    """Otherwise a mistake could cache a value forever."""
    with pytest.raises(ValueError, match="ttl_seconds"):
        cached().set("key", 1, ttl_seconds, jitter=jitter)


def test_jitter_spreads_the_expiry(cached: Open) -> None:
    """When the first of many values has expired, others are still cached."""
    cache = cached()
    for number in range(40):
        cache.set(str(number), 1, 15, jitter=0.99)

    def alive() -> int:
        return sum(cache.get(str(number)) == 1 for number in range(40))

    until(lambda: alive() < 40)
    assert alive() > 0


def test_concurrent_callers_share_one_computation(cached: Open) -> None:
    """Only callers of the same key wait for it. Other keys are computed meanwhile."""
    cache, times, go = cached(), [], threading.Event()

    def compute() -> str:
        times.append(1)
        go.wait(PATIENCE_SECONDS)
        return "expensive"

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(cache.get_or_compute, "key", compute, 600) for _ in range(8)]
        until(lambda: times)
        assert cache.get_or_compute("other", lambda: "cheap", 600) == "cheap"
        time.sleep(0.1)  # time for the other callers to wait; later callers find the cached value
        go.set()
        assert {call.result(PATIENCE_SECONDS) for call in calls} == {"expensive"}
    assert len(times) == 1
    assert cache.get("key") == "expensive"


def test_value_cached_after_the_first_look_is_not_computed_again(cached: Open) -> None:
    """A caller may miss just before another caller caches the value."""
    cache = cached()
    cache.set_before_next_get_returns("key", "expensive")
    assert cache.get_or_compute("key", lambda: pytest.fail("computed again"), 600) == "expensive"


def test_value_deleted_while_it_is_computed_is_not_cached(cached: Open) -> None:
    """The computation may have read the data before they changed. The next caller does not wait for it."""
    cache, begun, go = cached(), threading.Event(), threading.Event()

    def compute() -> str:
        begun.set()
        go.wait(PATIENCE_SECONDS)
        return "old"

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(cache.get_or_compute, "key", compute, 600)
        assert begun.wait(PATIENCE_SECONDS)
        cache.delete("key")
        assert cache.get_or_compute("key", lambda: "new", 600) == "new"
        go.set()
        assert call.result(PATIENCE_SECONDS) == "old"
    assert cache.get("key") == "new"


def test_failed_computation_reaches_all_callers_and_is_not_cached(cached: Open) -> None:
    """The next caller computes the value again."""
    cache, go = cached(), threading.Event()

    def fail() -> None:
        go.wait(PATIENCE_SECONDS)
        raise LookupError("no price today")

    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(cache.get_or_compute, "key", fail, 60) for _ in range(3)]
        time.sleep(0.1)
        go.set()
        assert [type(call.exception(PATIENCE_SECONDS)) for call in calls] == [LookupError] * 3
    assert cache.get_or_compute("key", lambda: 7, 60) == 7


def test_health_check_of_the_cache_is_not_critical(cached: Open) -> None:
    """Without the cache the service is slower, but it is not down."""
    cache = cached()
    outcome = cache.health()
    assert cache.check.name == "cache"
    assert not cache.check.critical
    assert outcome.status == "ok"
