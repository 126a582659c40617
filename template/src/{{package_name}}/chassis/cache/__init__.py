"""The cache: JSON values and bytes, stored in memory or in Redis for a limited time.

This module contains the parts that all caches share: the encoding of values, and the interface of a store.
"""

from __future__ import annotations

import random
from typing import Any, Protocol

import orjson

from ..app import Chassis

_BYTES, _JSON = b"b", b"j"
MISSING = object()


def encode(value: Any) -> bytes:
    """Encode bytes unchanged and everything else as JSON, after one byte that marks the kind.

    Raises:
        TypeError: The value is neither bytes nor JSON.
    """
    return _BYTES + value if isinstance(value, bytes) else _JSON + orjson.dumps(value)


def decode(stored: bytes | None) -> Any:
    """Decode a value, or return `MISSING` if there is none or if another program stored it."""
    if stored is None:
        return MISSING
    if stored[:1] == _BYTES:
        return stored[1:]
    try:
        return orjson.loads(stored[1:]) if stored[:1] == _JSON else MISSING
    except orjson.JSONDecodeError:
        return MISSING


def with_jitter(ttl_seconds: float, jitter: float) -> float:
    """Return a time to live, shortened by a random share of up to `jitter`.

    Without jitter, values that were stored together expire together, and all of them are computed at once.

    Raises:
        ValueError: `ttl_seconds` is not positive, or `jitter` is not at least 0 and below 1.
    """
    if ttl_seconds <= 0 or not 0 <= jitter < 1:
        raise ValueError(f"ttl_seconds={ttl_seconds} must be greater than 0, and jitter={jitter} from 0 to below 1")
    return ttl_seconds * (1 - jitter * random.random())


class Store(Protocol):
    """Stores bytes. When it is unavailable it does not raise: reads are misses, and the other calls return false.

    Each method returns its result, or an awaitable of it. An awaitable is for handlers on the event loop only.
    """

    def get(self, key: str) -> Any: ...

    def set(self, key: str, value: bytes, ttl_seconds: float) -> Any:
        """Store a value and return whether that succeeded."""

    def delete(self, key: str) -> Any:
        """Delete a value and return whether it existed."""


class StoreModule(Protocol):
    """The interface of the modules `memory.py` and `redis.py`, which also contain `Settings`."""

    def open_store(self, chassis: Chassis, *, blocking: bool) -> Store: ...
