"""Keeps things in the memory of this process: nothing to install, and each process has its own."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from ..rate_limit.limit import Limit, Verdict
from ..rate_limit.window import Window
from . import Settings as CacheSettings


class Settings(CacheSettings):
    """Memory"""

    cache_max_bytes: int = Field(
        50_000_000, gt=0, description="How much is kept; what was not used for longest goes first."
    )
    rate_limit_max_clients: int = Field(
        100_000, gt=0, description="How many clients each limit counts; of more, those that sent least go first."
    )


# What an entry takes besides its key and value, measured: its places in two tables, a tuple, a number.
_ENTRY_BYTES = 300


class MemoryStore:
    """A bounded store, least recently used out first."""

    away = False

    def __init__(self, max_bytes: int, max_clients: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._max_clients = max_clients
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._bytes = 0
        self._windows: dict[str, Window] = {}

    def get(self, key: str) -> bytes | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if entry[1] <= self._clock():
                self._drop(key)
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def set(self, key: str, value: bytes, ttl_seconds: float) -> bool:
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

    def _drop(self, key: str) -> bool:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= _size(key, entry[0])
        return entry is not None

    def take(self, client: str, limit: Limit) -> Verdict:
        now = self._clock()
        with self._lock:
            window = self._windows.get(limit.name)
            if window is None:
                window = self._windows[limit.name] = Window(limit, self._max_clients, now)
            return window.take(client, now)

    def ping(self) -> Mapping[str, Any]:
        clients = sum(map(len, list(self._windows.values())))
        return {"backend": "memory", "entries": len(self._entries), "bytes": self._bytes, "clients": clients}

    def close(self) -> None:
        with self._lock:
            self._entries.clear()
            self._bytes = 0


class AsyncMemoryStore:
    """The same store for an event loop, which it never keeps waiting."""

    away = False

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.take_at_once = store.take

    async def get(self, key: str) -> bytes | None:
        return self._store.get(key)

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        return self._store.set(key, value, ttl_seconds)

    async def delete(self, key: str) -> bool:
        return self._store.delete(key)

    async def take(self, client: str, limit: Limit) -> Verdict:
        return self._store.take(client, limit)

    async def ping(self) -> Mapping[str, Any]:
        return self._store.ping()

    async def close(self) -> None:
        self._store.close()


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + _ENTRY_BYTES


def open_store(settings: Any) -> MemoryStore:
    return MemoryStore(settings.cache_max_bytes, settings.rate_limit_max_clients)


def open_async_store(settings: Any) -> AsyncMemoryStore:
    return AsyncMemoryStore(open_store(settings))
