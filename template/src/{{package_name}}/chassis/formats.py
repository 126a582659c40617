"""Formats of values in responses and log entries: JSON, and times in RFC 3339."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson


def to_json(value: Any, default: Callable[[Any], str] = repr) -> bytes:
    """Return any `value` as JSON in UTF-8; `default` converts types that JSON does not support."""
    try:
        return orjson.dumps(value, default=default, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # a lone surrogate, an integer over 64 bits, an unusual type of key
        return json.dumps(value, default=default, skipkeys=True).encode()


def utc_now() -> str:
    """Return the current time in RFC 3339, in UTC, with microseconds."""
    second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{_date_and_time(second)}.{nanoseconds // 1000:06}Z"


@lru_cache(maxsize=2)
def _date_and_time(second: int) -> str:
    """Format a second once for all log entries of that second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
