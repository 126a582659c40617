"""Values of a database as JSON and back, without loss: what JSON has no word for is an object that names its type."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from . import BackupError

# Beyond these, whoever reads JSON may round.
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1

_TO_TEXT: dict[type, tuple[str, Callable[[Any], Any]]] = {
    int: ("int", str),
    float: ("float", repr),
    bytes: ("bytes", lambda value: base64.b64encode(value).decode()),
    memoryview: ("bytes", lambda value: base64.b64encode(value).decode()),
    Decimal: ("decimal", str),
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    UUID: ("uuid", str),
}
_FROM_TEXT: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "float": float,
    "bytes": base64.b64decode,
    "decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda parts: timedelta(*parts),
    "uuid": UUID,
}


def pack(value: Any) -> Any:
    """Return a value in the words of JSON.

    Raises:
        BackupError: nobody has said how such a value is kept.
    """
    kind = type(value)
    if value is None or kind is str or kind is bool:
        return value
    if (kind is int and _SMALLEST <= value <= _LARGEST) or (kind is float and math.isfinite(value)):
        return value
    if kind not in _TO_TEXT:
        raise BackupError(f"the database holds a value of the type {kind.__name__}, which no backup can keep")
    name, to_text = _TO_TEXT[kind]
    return {name: to_text(value)}


def unpack(value: Any) -> Any:
    """Return what `pack` was given."""
    if type(value) is not dict:
        return value
    ((name, text),) = value.items()
    return _FROM_TEXT[name](text)
