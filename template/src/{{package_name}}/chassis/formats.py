"""Formats of values in responses and log entries: JSON, times in RFC 3339, and bounded copies without secrets."""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from functools import lru_cache
from itertools import islice
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel

REDACTED = "[redacted]"
_MAX_DEPTH = 16
# The limits of one container or text, and of one copy with everything in it.
_MAX_ITEMS, _MAX_ITEMS_IN_ALL = 500, 2_000
_MAX_CHARACTERS, _MAX_CHARACTERS_IN_ALL = 65_536, 262_144
_MAX_INTEGER_BITS = 4_096  # Python refuses to write more than 4,300 digits

# Matches `DB_PASSWORD`, `apiKey`, `set-cookie`, `access_tokens`, but neither `tokens_left` nor `author`.
_SENSITIVE = re.compile(
    r"(password|passwd|passphrase|secret|token|dsn|credential|(^|[^a-z])(authorization|cookie|jwt)"
    r"|(access|api|backup|encryption|private|signing)[^a-z]?key)(?=s?$|[^a-z])"
)
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def to_json(value: Any, default: Callable[[Any], str] = repr) -> bytes:
    """Return any `value` as JSON in UTF-8; `default` converts types that JSON does not support."""
    try:
        return orjson.dumps(value, default=default, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # a lone surrogate, an integer over 64 bits, an unusual type of key
        # Write NaN as null, as orjson does, and a lone surrogate as `?`, because strict parsers reject both.
        plain = json.loads(json.dumps(value, default=default, skipkeys=True), parse_constant=lambda _: None)
        return json.dumps(plain, ensure_ascii=False).encode(errors="replace")


def utc_now() -> str:
    """Return the current time in RFC 3339, in UTC, with microseconds."""
    second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{_date_and_time(second)}.{nanoseconds // 1000:06}Z"


@lru_cache(maxsize=2)
def _date_and_time(second: int) -> str:
    """Format a second once for all log entries of that second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


@lru_cache(maxsize=1024)
def is_sensitive(key: str, secret_names: frozenset[str] = frozenset()) -> bool:
    """Tell whether a value under this key must not be shown, because of its words or as one of `secret_names`."""
    name = _CAMEL_CASE.sub("_", key).lower()
    return bool(_SENSITIVE.search(name)) or name.rpartition(".")[2].replace("-", "_") in secret_names


def redact(value: Any, secret_names: frozenset[str] = frozenset(), default: Callable[[Any], str] = repr) -> Any:
    """Return a copy of any value that `to_json` can write, with the values of sensitive keys masked at any depth.

    Keys are those of mappings, the fields of dataclasses and models, and the first members of pairs such as headers.
    The copy is limited in size and depth, even if the value contains itself. A note replaces parts that cannot be read.
    """
    return _Copy(secret_names, default).of(value)


class _Copy:
    """One copy, with the items and characters that it may still contain."""

    def __init__(self, secret_names: frozenset[str], default: Callable[[Any], str]) -> None:
        self._secret_names = secret_names
        self._default = default
        self._items = _MAX_ITEMS_IN_ALL
        self._characters = _MAX_CHARACTERS_IN_ALL

    def of(self, value: Any, depth: int = 0) -> Any:
        try:
            if isinstance(value, str):
                return self._text(value)
            if value is None or isinstance(value, (bool, float, datetime, date, UUID)):
                return value
            if isinstance(value, int):
                bits = value.bit_length()
                return value if bits <= _MAX_INTEGER_BITS else f"[integer of {bits} bits]"
            if depth > _MAX_DEPTH:
                return "[too deep]"
            opened = _opened(value)
            if isinstance(opened, Mapping):
                return self._mapping(opened, depth)
            if isinstance(opened, (list, tuple, set, frozenset, deque)):
                return self._list(opened, depth)
            return self._text(self._default(value))
        except Exception:  # the value's own code failed, such as `__repr__`
            return f"[unreadable {type(value).__name__}]"

    def _mapping(self, mapping: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        copied: dict[str, Any] = {}
        for key, item in mapping.items():
            if not self._has_room(copied):
                copied["[cut]"] = f"{len(mapping)} items"
                break
            name = self._key(key)
            copied[name] = REDACTED if self._hides(name, item) else self.of(item, depth + 1)
        return copied

    def _list(self, items: Any, depth: int) -> list[Any]:
        if len(items) == 2 and isinstance(items, (list, tuple)) and isinstance(items[0], (str, bytes)):
            name = self._key(items[0])
            if self._hides(name, items[1]):
                return [name, REDACTED]
        copied: list[Any] = []
        for item in items:
            if not self._has_room(copied):
                copied.append(f"[cut: {len(items)} items]")
                break
            copied.append(self.of(item, depth + 1))
        return copied

    def _has_room(self, copied: Collection[Any]) -> bool:
        self._items -= 1
        return len(copied) < _MAX_ITEMS and self._items >= 0

    def _key(self, key: object) -> str:
        if isinstance(key, bytes):
            key = key[:_MAX_CHARACTERS].decode("latin-1")
        return self._text(key if isinstance(key, str) else str(self.of(key, _MAX_DEPTH)))

    def _hides(self, name: str, item: object) -> bool:
        # A number such as `prompt_tokens=512` is a count and not a secret.
        counts = isinstance(item, (int, float)) and name.endswith("s")
        return not counts and is_sensitive(name, self._secret_names)

    def _text(self, text: str) -> str:
        room = min(_MAX_CHARACTERS, self._characters)
        self._characters -= min(len(text), room)
        return text if len(text) <= room else f"{text[:room]} [cut: {len(text)} characters]"


def _opened(value: Any) -> Any:
    """Return a container of keys and values as a mapping, or as pairs if a key may occur twice."""
    if isinstance(value, (type, list, tuple, set, frozenset, deque, Mapping)):
        return value
    try:
        if isinstance(value, BaseModel):
            return dict(value)
        if is_dataclass(value):
            # Fields that are not loaded yet (a database row may be a dataclass) are skipped: logging must not query.
            held = getattr(value, "__dict__", None)
            return {f.name: getattr(value, f.name) for f in fields(value) if held is None or f.name in held}
        return list(islice(value.items(), _MAX_ITEMS + 1)) if hasattr(value, "items") else value
    except Exception:
        return value  # the value only looked like a container
