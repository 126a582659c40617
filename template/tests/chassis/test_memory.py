"""The memory of the process: bounded, whatever comes."""

from __future__ import annotations

from typing import Any

import pytest

from ..package import module
from .conftest import settings_for_tests

MINUTE = module("chassis.rate_limit.limit").Limit.parse("default", "6/minute")


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 600_000.0

    def __call__(self) -> float:
        return self.seconds


def new_store(clock: Clock | None = None, max_bytes: int = 10_000, max_clients: int = 1000) -> Any:
    return module("chassis.cache.memory").MemoryStore(max_bytes, max_clients, clock or Clock())


def taken(store: Any, key: str = "client") -> bool:
    return bool(store.take(key, MINUTE).allowed)


def test_what_was_not_used_for_longest_goes_first() -> None:
    """Whatever else is kept fits into the bound."""
    store = new_store()
    for key in ("a", "b", "c"):
        assert store.set(key, b"x" * 2900, 60)
    assert store.get("a") is not None
    assert store.set("d", b"x" * 2900, 60)
    assert store.get("b") is None
    assert [store.get(key) is not None for key in "acd"] == [True] * 3
    assert store.ping()["bytes"] <= 10_000


def test_what_is_larger_than_all_is_not_kept() -> None:
    """And throws nothing else out, but for an older value of its own."""
    store = new_store()
    store.set("small", b"x", 60)
    store.set("large", b"x", 60)
    assert not store.set("large", b"x" * 10_000, 60)
    assert store.get("large") is None
    assert store.get("small") == b"x"


def test_the_window_slides() -> None:
    """A client that sent all it may in one window can send in the next as much as has slid out of sight, no more."""
    clock = Clock()
    store = new_store(clock)
    clock.seconds += 30
    assert [taken(store) for _ in range(7)] == [True] * 6 + [False]
    assert store.take("client", MINUTE).reset_seconds == pytest.approx(40)
    clock.seconds += 30  # the next window begins: all six still count
    assert not taken(store)
    clock.seconds += 10  # a sixth of it is over
    assert [taken(store), taken(store)] == [True, False]
    assert store.take("client", MINUTE).reset_seconds == pytest.approx(10)
    clock.seconds += 20
    assert [taken(store) for _ in range(3)] == [True, True, False]
    clock.seconds += 120
    assert [taken(store) for _ in range(7)] == [True] * 6 + [False]


def test_after_the_time_that_it_was_told_a_client_may_send_again() -> None:
    """Neither earlier nor much later, wherever in the window it stands."""
    clock = Clock()
    store = new_store(clock)
    for step in range(60):
        clock.seconds += 0.7 * (step % 5)
        verdict = store.take("client", MINUTE)
        if not verdict.allowed:
            clock.seconds += verdict.reset_seconds - 0.01
            assert not taken(store)
            clock.seconds += 0.011
            assert taken(store)


def test_a_million_clients_take_a_bounded_memory() -> None:
    """Those who sent least are forgotten first; one that keeps asking is not."""
    store = new_store(max_clients=10_000)
    assert taken(store, "persistent")
    for number in range(1_000_000):
        store.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", MINUTE)
        if number < 5:
            assert taken(store, "persistent")
        if number % 1000 == 0:
            assert store.ping()["clients"] <= 10_000
    assert not taken(store, "persistent")


def test_a_flood_of_busy_clients_is_bounded_too() -> None:
    """Even when everybody sends all it may."""
    store = new_store(max_clients=100)
    for number in range(1000):
        assert [taken(store, str(number)) for _ in range(7)] == [True] * 6 + [False]
        assert store.ping()["clients"] <= 100


def test_the_bounds_are_settings() -> None:
    """Both have a unit and a default."""
    settings = settings_for_tests()
    assert settings.cache_max_bytes == 50_000_000
    assert settings.rate_limit_max_clients == 100_000
