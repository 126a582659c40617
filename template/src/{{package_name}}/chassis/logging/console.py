"""The console format of log entries, for development: one short line for each entry, in colour."""

from __future__ import annotations

import time
from typing import Any

_PACKAGE = __name__.partition(".")[0]
_COLOURS = {"debug": 36, "info": 32, "warning": 33, "error": 31, "critical": 31}
# Fields that the line shows in another form, or that are the same for every line of a process.
_ELSEWHERE = {
    "timestamp", "level", "event", "logger", "service.name", "service.version", "deployment.environment.name",
    "request_id", "trace_id", "span_id", "http.request.method", "url.path", "http.route", "client.address",
    "http.response.status_code", "exception", "stack",
}  # fmt: skip
_MAX_CHARACTERS = 70


def to_line(entry: dict[str, Any]) -> bytes:
    """Return an entry as `12:30:00 info    note_created GET /notes note_id=7 request=3f2a9c1b`, and its traceback."""
    level, logger = entry["level"], str(entry["logger"])
    parts = [f"{time.strftime('%H:%M:%S')} \x1b[{_COLOURS.get(level, 0)}m{level:<7}\x1b[0m"]
    parts.append(f"\x1b[1m{_printable(str(entry['event']))}\x1b[0m")
    if logger != "access" and logger.partition(".")[0] != _PACKAGE:
        parts.append(f"[{logger}]")
    if "url.path" in entry:
        parts.append(f"{entry['http.request.method']} {_value(entry['url.path'])}")
    if "http.response.status_code" in entry:
        parts.append(str(entry["http.response.status_code"]))
    parts += [f"{_value(name)}={_value(value)}" for name, value in entry.items() if name not in _ELSEWHERE]
    if "request_id" in entry:
        parts.append(f"request={entry['request_id'][:8]}")
    lines = [" ".join(parts), *(_printable(str(entry[name])) for name in ("exception", "stack") if name in entry)]
    return "\n".join(lines).encode("utf-8", "backslashreplace")


def _value(value: object) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ",".join(value)
    text = value if isinstance(value, str) and value.isprintable() and " " not in value else repr(value)
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…"


def _printable(text: str) -> str:
    """Escape whatever would control the terminal, except line breaks."""
    return "".join(one if one.isprintable() or one in "\n\t" else repr(one)[1:-1] for one in text)
