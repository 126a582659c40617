"""Keeps secrets out of log entries: values are redacted by the names of their keys."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel

REDACTED = "[redacted]"
# Deeper values are cut off, because a value may contain itself.
_DEEPEST = 16
_CUT = "[too deep]"

_NAMES = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"})
_ENDINGS = ("password", "secret", "token", "dsn")


def is_sensitive(key: object) -> bool:
    """Tell whether a value under this key must not be logged: `X_Api_Key`, `db.password`, `SENTRY_DSN` ..."""
    name = (key.decode("latin-1") if isinstance(key, bytes) else str(key)).lower()
    return name.endswith(_ENDINGS) or name.rpartition(".")[2].replace("_", "-") in _NAMES


def redact(value: Any, depth: int = 0) -> Any:
    """Return a copy with the values of sensitive keys masked, at any depth.

    Keys are those of mappings, the fields of dataclasses and models, and the first members of pairs such as headers.
    """
    if depth > _DEEPEST:
        return _CUT
    value = _opened(value)
    if isinstance(value, dict):
        return {key: REDACTED if is_sensitive(key) else redact(item, depth + 1) for key, item in value.items()}
    if not isinstance(value, (list, tuple)):
        return value
    if len(value) == 2 and isinstance(value[0], (str, bytes)) and is_sensitive(value[0]):
        return [value[0], REDACTED]
    return [redact(item, depth + 1) for item in value]


def _opened(value: Any) -> Any:
    """Return a container of keys and values as a dictionary, or as pairs if a key may occur twice."""
    if isinstance(value, type):
        return value
    try:
        if isinstance(value, (Mapping, BaseModel)):
            return dict(value)
        if is_dataclass(value):
            # Fields that are not loaded yet (a database row may be a dataclass) are skipped: logging must not query.
            held = getattr(value, "__dict__", None)
            return {f.name: getattr(value, f.name) for f in fields(value) if held is None or f.name in held}
        return list(value.items()) if hasattr(value, "items") else value
    except Exception:
        return value  # it only looked like a container


def redact_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """Redact an event, as a structlog processor."""
    redacted: dict[str, Any] = redact(event)
    return redacted
