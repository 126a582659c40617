"""The cache in memory: bounded by its size in bytes."""

from __future__ import annotations

import time
from typing import Any

from ..package import module
from .conftest import settings_for_tests


def new_store(max_bytes: int = 10_000) -> Any:
    return module("chassis.cache.memory").MemoryStore(max_bytes, time.monotonic)


def test_full_store_drops_the_least_recently_used_value() -> None:
    """All other values stay, and the size stays within the bound."""
    store = new_store()
    for key in ("a", "b", "c"):
        assert store.set(key, b"x" * 2900, 60)
    assert store.get("a") is not None
    assert store.set("d", b"x" * 2900, 60)
    assert store.get("b") is None
    assert [store.get(key) is not None for key in "acd"] == [True] * 3
    assert store.details()["bytes"] <= 10_000


def test_value_larger_than_the_store_is_not_stored() -> None:
    """It drops no value except an older one of the same key."""
    store = new_store()
    store.set("small", b"x", 60)
    store.set("large", b"x", 60)
    assert not store.set("large", b"x" * 10_000, 60)
    assert store.get("large") is None
    assert store.get("small") == b"x"


def test_max_bytes_is_a_setting() -> None:
    """The setting limits the size of the store in bytes."""
    assert settings_for_tests().cache_max_bytes == 50_000_000
