"""Rate limits in memory: a sliding window per client, in bounded memory."""

from __future__ import annotations

from typing import Any

import pytest

from ..package import module
from .conftest import settings_for_tests

SIX_A_MINUTE = module("chassis.rate_limit").Limit.parse("default", "6/minute")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 600_000.0

    def __call__(self) -> float:
        return self.seconds


def new_store(clock: Clock | None = None, max_clients: int = 1000) -> Any:
    return module("chassis.rate_limit.memory").MemoryStore(max_clients, clock or Clock())


def is_allowed(store: Any, client: str = "client") -> bool:
    return bool(store.hit(client, SIX_A_MINUTE).allowed)


def test_window_that_slides_frees_requests_gradually() -> None:
    """After a full window, a client may send only as many requests as have left the sliding window."""
    clock = Clock()
    store = new_store(clock)
    clock.seconds += 30
    assert [is_allowed(store) for _ in range(7)] == [True] * 6 + [False]
    assert store.hit("client", SIX_A_MINUTE).reset_seconds == pytest.approx(40)
    clock.seconds += 30  # the next window begins, and all six requests still count
    assert not is_allowed(store)
    clock.seconds += 10  # a sixth of it has passed
    assert [is_allowed(store), is_allowed(store)] == [True, False]
    assert store.hit("client", SIX_A_MINUTE).reset_seconds == pytest.approx(10)
    clock.seconds += 20
    assert [is_allowed(store) for _ in range(3)] == [True, True, False]
    clock.seconds += 120
    assert [is_allowed(store) for _ in range(7)] == [True] * 6 + [False]


def test_rejected_client_is_allowed_after_reset_seconds() -> None:
    """The reset time is exact at any point of the window."""
    clock = Clock()
    store = new_store(clock)
    rejected = 0
    for step in range(60):
        clock.seconds += 0.7 * (step % 5)
        result = store.hit("client", SIX_A_MINUTE)
        if not result.allowed:
            rejected += 1
            clock.seconds += result.reset_seconds - 0.01
            assert not is_allowed(store)
            clock.seconds += 0.011
            assert is_allowed(store)
    assert rejected > 5


def test_million_clients_use_bounded_memory() -> None:
    """The store drops the clients with the fewest requests first, and not one that continues to send."""
    store = new_store(max_clients=10_000)
    assert is_allowed(store, "persistent")
    for number in range(1_000_000):
        store.hit(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", SIX_A_MINUTE)
        if number < 5:
            assert is_allowed(store, "persistent")
        if number % 1000 == 0:
            assert store.details()["clients"] <= 10_000
    assert not is_allowed(store, "persistent")


def test_flood_of_busy_clients_uses_bounded_memory() -> None:
    """Memory stays bounded even if every client uses its whole limit."""
    store = new_store(max_clients=100)
    for number in range(1000):
        assert [is_allowed(store, str(number)) for _ in range(7)] == [True] * 6 + [False]
        assert store.details()["clients"] <= 100


def test_max_clients_is_a_setting() -> None:
    """The default number of clients fits into about 20 MB."""
    assert settings_for_tests().rate_limit_max_clients == 100_000
