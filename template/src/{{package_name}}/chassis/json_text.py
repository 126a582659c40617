"""JSON of whatever it is given: what is told of a value must not be lost over the value."""

from __future__ import annotations

import json
from typing import Any

import orjson


def to_json(value: Any) -> bytes:
    """Return `value` as JSON in UTF-8; what JSON does not know is written as Python shows it."""
    try:
        return orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # a lone surrogate, an integer over 64 bits, a key of a kind of its own
        return json.dumps(value, default=repr, skipkeys=True).encode()
