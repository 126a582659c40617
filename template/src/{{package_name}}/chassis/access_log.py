"""The one `request_finished` line of a request.

It is encoded here, by orjson and at once, because it is written for every request: through the processors of the
application's logs it would cost three times as much.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from .log_sink import SINK
from .logging import service_fields
from .request_context import RequestContext

AccessLog = Callable[[RequestContext], None]


def access_log(settings: Any) -> AccessLog:
    """Return the function that writes the line of a request that has ended, in the form of `settings.log_format`."""
    if settings.log_level not in ("DEBUG", "INFO"):
        return lambda context: None
    return _through_processors if settings.log_format == "console" else _direct(settings)


def _through_processors(context: RequestContext) -> None:
    structlog.get_logger("access").info(
        "request_finished",
        **{"http.response.status_code": context.status, "duration_ms": _duration_ms(context)},
    )


def _duration_ms(context: RequestContext) -> float:
    return round((time.perf_counter() - context.started) * 1000, 3)


def _direct(settings: Any) -> AccessLog:
    fixed = {"level": "info", "event": "request_finished", "logger": "access"} | service_fields(settings)
    # orjson writes an aware datetime as RFC 3339 with microseconds; these options give UTC its `Z`.
    options = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE

    def write(context: RequestContext) -> None:
        line: dict[str, object] = {"timestamp": datetime.now(UTC), **fixed, **context.log_fields()}
        line["http.response.status_code"] = context.status
        line["duration_ms"] = _duration_ms(context)
        SINK.write_soon(orjson.dumps(line, default=repr, option=options))

    return write
