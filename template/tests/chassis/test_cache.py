"""The cache: what it keeps, for how long, and how often it lets a value be computed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from .cache_calls import CacheCalls, open_cache
from .conftest import settings_for_tests
from .process import PATIENCE_SECONDS, until

Open = Callable[..., CacheCalls]


@pytest.fixture
def cached() -> Iterator[Open]:
    """Open a cache; several with the same settings stand for several processes."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(open_cache(settings_for_tests(**settings)))


@pytest.mark.parametrize(
    "value",
    [{"price": 7.5, "tags": ["a", "ü"]}, [1, None, True], "text", 7, 0, "", None, False, b"", b"\x00\xff", b"jno JSON"],
    ids=repr,
)
def test_json_and_bytes_come_back_as_they_were(cached: Open, value: Any) -> None:
    """Nothing, false and empty are values too."""
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


def test_what_is_neither_is_refused(cached: Open) -> None:
    """A set is a mistake of the program, not something to keep."""
    with pytest.raises(TypeError):
        cached().set("key", {1, 2}, 60)


def test_a_value_that_was_taken_out_can_be_changed(cached: Open) -> None:
    """What is kept is a copy."""
    cache = cached()
    cache.set("key", [1], 60)
    cache.get("key").append(2)
    assert cache.get("key") == [1]


def test_a_value_ends_with_its_time(cached: Open) -> None:
    """And not before."""
    cache, began = cached(), time.monotonic()
    cache.set("short", 1, 0.2)
    cache.set("long", 1, 600)
    until(lambda: cache.get("short") is None)
    assert time.monotonic() - began > 0.19  # clocks of two processes, in whole milliseconds
    assert cache.get("long") == 1


@pytest.mark.parametrize(("ttl_seconds", "jitter"), [(0, 0), (-1, 0), (1, 1), (1, -0.1)])
def test_a_time_that_makes_no_sense_is_refused(cached: Open, ttl_seconds: float, jitter: float) -> None:
    """Nothing is kept for ever by mistake."""
    with pytest.raises(ValueError, match="ttl_seconds"):
        cached().set("key", 1, ttl_seconds, jitter=jitter)


def test_jitter_spreads_the_ends(cached: Open) -> None:
    """What was kept together does not end together: when the first is gone others are still there."""
    cache = cached()
    for number in range(40):
        cache.set(str(number), 1, 15, jitter=0.99)

    def alive() -> int:
        return sum(cache.get(str(number)) == 1 for number in range(40))

    until(lambda: alive() < 40)
    assert alive() > 0


def test_namespaces_and_versions_do_not_meet(cached: Open) -> None:
    """Two services, or two forms of a value, may have the same keys."""
    name = f"{settings_for_tests().cache_namespace}-one"
    one = cached(cache_namespace=name)
    one.set("key", 1, 60)
    assert cached().get("key") is None
    assert cached(cache_namespace=name, cache_version="2").get("key") is None
    assert one.get("key") == 1


def test_a_value_is_computed_once_however_many_ask(cached: Open) -> None:
    """One flight for each key: the others wait for it."""
    cache, times, go = cached(), [], threading.Event()

    def compute() -> str:
        times.append(1)
        go.wait(PATIENCE_SECONDS)
        return "dear"

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(cache.get_or_compute, "key", compute, 600) for _ in range(8)]
        until(lambda: times)
        assert cache.get_or_compute("other", lambda: "cheap", 600) == "cheap"
        time.sleep(0.1)  # for the others to come; who comes later finds what was computed
        go.set()
        assert {future.result(PATIENCE_SECONDS) for future in asked} == {"dear"}
    assert len(times) == 1
    assert cache.get("key") == "dear"


def test_what_was_kept_meanwhile_is_not_computed_again(cached: Open) -> None:
    """Whoever looked just before another flight ended is given what that one kept."""
    cache = cached()
    cache.keep_before_next_look_ends("key", "dear")
    assert cache.get_or_compute("key", lambda: pytest.fail("computed again"), 600) == "dear"


def test_a_failure_reaches_all_who_wait_and_is_not_kept(cached: Open) -> None:
    """The next one tries again."""
    cache, go = cached(), threading.Event()

    def fail() -> None:
        go.wait(PATIENCE_SECONDS)
        raise LookupError("no price today")

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(cache.get_or_compute, "key", fail, 60) for _ in range(3)]
        time.sleep(0.1)
        go.set()
        assert [type(future.exception(PATIENCE_SECONDS)) for future in asked] == [LookupError] * 3
    assert cache.get_or_compute("key", lambda: 7, 60) == 7


def test_health_shows_the_cache(cached: Open) -> None:
    """As a check that is not critical: without it the service is slower, not dead."""
    cache = cached()
    assert cache.check.name == "cache"
    assert not cache.check.critical
    assert "backend" in cache.ping()
