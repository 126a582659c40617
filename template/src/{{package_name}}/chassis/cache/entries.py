"""What both caches share: the names of entries, and how values become bytes."""

from __future__ import annotations

import random
from typing import Any

import orjson

_BYTES, _JSON = b"b", b"j"
MISSING = object()


def prefix(settings: Any) -> str:
    """Return the first part of every key: services and forms of values do not meet in one store."""
    return f"{settings.cache_namespace or settings.service_name}:{settings.cache_version}:"


def encode(value: Any) -> bytes:
    """Write bytes as they are and everything else as JSON.

    Raises:
        TypeError: the value is neither.
    """
    return _BYTES + value if isinstance(value, bytes) else _JSON + orjson.dumps(value)


def decode(kept: bytes | None) -> Any:
    """Read what `encode` wrote; `MISSING` when there is nothing, or something of another hand."""
    if kept is None:
        return MISSING
    if kept[:1] == _BYTES:
        return kept[1:]
    try:
        return orjson.loads(kept[1:]) if kept[:1] == _JSON else MISSING
    except orjson.JSONDecodeError:
        return MISSING


def spread(ttl_seconds: float, jitter: float) -> float:
    """Shorten a time to live by up to its share `jitter`, so that what was kept together does not end together.

    Raises:
        ValueError: there is no time left to live, or the share is none.
    """
    if ttl_seconds <= 0 or not 0 <= jitter < 1:
        raise ValueError(f"ttl_seconds={ttl_seconds} must be over 0, and jitter={jitter} from 0 to below 1")
    return ttl_seconds * (1 - jitter * random.random())
