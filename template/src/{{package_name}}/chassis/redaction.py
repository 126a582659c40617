"""Keeps secrets out of the logs, by the name of the key that holds them."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

REDACTED = "[redacted]"

_NAMES = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"})
_ENDINGS = ("password", "secret", "token", "dsn")


def is_sensitive(key: str) -> bool:
    """Tell whether a value under this key must not be logged: `X_Api_Key`, `db.password`, `SENTRY_DSN` ..."""
    name = key.lower()
    return name.endswith(_ENDINGS) or name.replace("_", "-") in _NAMES


def redact(value: Any) -> Any:
    """Return a copy with the values of sensitive keys masked, however deep they lie."""
    if isinstance(value, Mapping):
        return {key: REDACTED if is_sensitive(str(key)) else redact(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(item) for item in value]
    return value


def redact_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """The same as a structlog processor."""
    return {key: REDACTED if is_sensitive(key) else redact(item) for key, item in event.items()}
