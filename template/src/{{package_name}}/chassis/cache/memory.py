"""Caches values in the memory of this process. Each process has its own cache, and a restart clears it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from ..app import Chassis
from ..health.checks import Check
from ..settings import BaseChassisSettings

# The measured size of an entry without its key and value: places in two tables, a tuple and a number.
_ENTRY_BYTES = 300


class Settings(BaseChassisSettings):
    """Cache in memory"""

    cache_max_bytes: int = Field(
        50_000_000, gt=0, description="Size of the cache; above it, the least recently used values are dropped."
    )


class MemoryStore:
    """A store of bounded size that drops the least recently used values."""

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> bytes | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            value, expires = entry
            if expires <= self._clock():
                self._drop(key)
                return None
            self._entries.move_to_end(key)
            return value

    def set(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """Store a value, unless it is larger than the whole store."""
        size = _size(key, value)
        with self._lock:
            self._drop(key)
            if size > self._max_bytes:
                return False
            self._entries[key] = (value, self._clock() + ttl_seconds)
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._entries)))
            return True

    def delete(self, key: str) -> bool:
        with self._lock:
            return self._drop(key)

    def details(self) -> Mapping[str, Any]:
        """Return the details for the health report."""
        return {"backend": "memory", "entries": len(self._entries), "bytes": self._bytes}

    def _drop(self, key: str) -> bool:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= _size(key, entry[0])
        return entry is not None


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + _ENTRY_BYTES


def open_store(chassis: Chassis, *, blocking: bool) -> MemoryStore:
    store = MemoryStore(chassis.settings_as(Settings).cache_max_bytes)

    async def probe() -> Mapping[str, Any]:
        return store.details()

    chassis.health.add(Check("cache", probe))
    return store
