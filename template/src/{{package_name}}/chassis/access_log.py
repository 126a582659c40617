"""The one `request_finished` line of a request.

It is encoded here, by orjson and at once, because it is written for every request: through the processors of the
application's logs it would cost three times as much. Requests that end together are written together, for the same
reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
import structlog

from . import request_context
from .json_text import to_json
from .log_sink import SINK
from .logging import service_fields, utc_now
from .request_context import RequestContext

AccessLog = Callable[[Sequence[RequestContext]], None]


def access_log(settings: Any) -> AccessLog:
    """Return the function that writes the lines of requests that have ended, in the form of `settings.log_format`."""
    if settings.log_level not in ("DEBUG", "INFO"):
        return lambda ended: None
    return _through_processors if settings.log_format == "console" else _direct(settings)


def _through_processors(ended: Sequence[RequestContext]) -> None:
    log = structlog.get_logger("access")
    for context in ended:
        token = request_context.enter(context)
        log.info("request_finished", **_outcome(context))
        request_context.leave(token)


def _outcome(context: RequestContext) -> dict[str, object]:
    return {"http.response.status_code": context.status, "duration_ms": round(context.duration_seconds * 1000, 3)}


def _direct(settings: Any) -> AccessLog:
    fixed = {"level": "info", "event": "request_finished", "logger": "access"} | service_fields(settings)
    # What every line begins with is encoded once; a line goes on where the brace of this object would close it.
    beginning = b"," + orjson.dumps(fixed)[1:-1] + b","

    def encode(context: RequestContext) -> bytes:
        fields = context.log_fields()
        fields["http.response.status_code"] = context.status
        fields["duration_ms"] = round(context.duration_seconds * 1000, 3)
        try:
            return orjson.dumps(fields, default=repr, option=orjson.OPT_APPEND_NEWLINE)[1:]
        except TypeError:  # the user's id may be anything
            return to_json(fields)[1:] + b"\n"

    def write(ended: Sequence[RequestContext]) -> None:
        head = b'{"timestamp":"' + utc_now().encode() + b'"' + beginning
        SINK.write(head + head.join(map(encode, ended)))

    return write
