"""Stores responses in the memory of this process. Each process stores its own responses, and a restart clears them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from pydantic import Field

from ..app import Chassis
from . import Settings as IdempotencySettings
from . import install as install_store

# The size of an entry without its record.
_ENTRY_BYTES = 400


class Settings(IdempotencySettings):
    """Idempotency keys in memory"""

    idempotency_max_bytes: int = Field(
        50_000_000, gt=0, description="Size of all stored responses; above it, the oldest ones are dropped."
    )


class MemoryStore:
    """A store of bounded size. Use it only on the event loop, because it does not lock."""

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._running: dict[str, bytes] = {}
        self._ended: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._bytes = 0

    async def begin(self, name: str, record: bytes, ttl_seconds: float) -> bytes | None:
        if name in self._running:
            return self._running[name]
        stored, expires = self._ended.get(name, (None, 0.0))
        if stored is not None and expires > self._clock():
            return stored
        self._running[name] = record
        return None

    async def finish(self, name: str, record: bytes | None, ttl_seconds: float) -> bool:
        self._running.pop(name, None)
        self._drop(name)
        if record is not None:
            self._ended[name] = (record, self._clock() + ttl_seconds)
            self._bytes += len(record) + _ENTRY_BYTES
        while self._ended and (self._bytes > self._max_bytes or self._oldest_expires() <= self._clock()):
            self._drop(next(iter(self._ended)))
        return True

    def _oldest_expires(self) -> float:
        return next(iter(self._ended.values()))[1]

    def _drop(self, name: str) -> None:
        if name in self._ended:
            self._bytes -= len(self._ended.pop(name)[0]) + _ENTRY_BYTES


def install(chassis: Chassis) -> None:
    install_store(chassis, MemoryStore(chassis.settings_as(Settings).idempotency_max_bytes))
