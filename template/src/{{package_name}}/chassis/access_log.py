"""The one `request_finished` line of a request.

It is encoded here, by orjson and at once, because it is written for every request: through the processors of the
application's logs it would cost three times as much. Requests that end together are written together, for the same
reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from . import request_context
from .log_sink import SINK
from .logging import service_fields
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
    # orjson writes an aware datetime as RFC 3339 with microseconds; these options give UTC its `Z`.
    options = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE

    def write(ended: Sequence[RequestContext]) -> None:
        common = {"timestamp": datetime.now(UTC), **fixed}
        lines = [{**common, **context.log_fields(), **_outcome(context)} for context in ended]
        SINK.write(b"".join([orjson.dumps(line, default=repr, option=options) for line in lines]))

    return write
