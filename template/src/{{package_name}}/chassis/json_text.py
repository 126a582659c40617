"""JSON of whatever it is given: what is told of a value must not be lost over the value."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson


def to_json(value: Any, default: Callable[[Any], str] = repr) -> bytes:
    """Return `value` as JSON in UTF-8; `default` writes what JSON does not know."""
    try:
        return orjson.dumps(value, default=default, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # a lone surrogate, an integer over 64 bits, a key of a kind of its own
        return json.dumps(value, default=default, skipkeys=True).encode()
