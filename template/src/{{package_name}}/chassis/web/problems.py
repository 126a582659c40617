"""Error responses as `application/problem+json` (RFC 9457), the same for exceptions from any source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import structlog

from .. import errors, request_context
from ..app import Chassis
from ..formats import to_json, utc_now

MEDIA_TYPE = "application/problem+json"

# A response lists at most this many field errors and gives the number of the others; texts are cut. Because of both
# limits, the size of an error response does not depend on that of the request.
_MAX_FIELD_ERRORS = 50
_MAX_FIELD_CHARACTERS = 300
_MAX_DETAIL_CHARACTERS = 2000

log = structlog.get_logger(__name__)


class RawResponse(NamedTuple):
    """A whole response that every framework can send. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def problem_response(chassis: Chassis, cause: BaseException, error: errors.ServiceError | None = None) -> RawResponse:
    """Return the response to an exception. A 5xx is logged and reported here, once.

    Args:
        chassis: The chassis, which has the error translators and reporters.
        cause: The exception.
        error: The error to respond with; by default the translation of the exception.
    """
    error = error or chassis.to_service_error(cause)
    context = request_context.current()
    if context is not None:
        context.error = cause
        context.error_code = error.error_code if error.status >= 400 else None
    if error.status < 400:  # a redirect, which frameworks also raise
        return RawResponse(error.status, error.headers(), b"")
    error_id = str(uuid4())
    if error.status >= 500:
        _report(chassis, cause, error, error_id)
    headers = {"cache-control": "no-store"} | error.headers() | {"content-type": MEDIA_TYPE}
    return RawResponse(error.status, headers, _body(error, error_id))


def _report(chassis: Chassis, cause: BaseException, error: errors.ServiceError, error_id: str) -> None:
    log.error("request_failed", error_id=error_id, error_code=error.error_code, exc_info=cause)
    context = request_context.current()
    if context is not None and context.is_probe:
        return
    for report in chassis.error_reporters:
        try:
            report(cause, error_id, context)
        except Exception:
            log.exception("error_reporter_failed", error_id=error_id)


def _body(error: errors.ServiceError, error_id: str) -> bytes:
    context = request_context.current()
    return to_json(
        {
            "type": "about:blank",
            "title": error.title,
            "status": error.status,
            "detail": _cut(error.detail, _MAX_DETAIL_CHARACTERS),
            "instance": f"urn:uuid:{error_id}",
            "error_code": error.error_code,
            "error_id": error_id,
            "request_id": context.request_id if context else None,
            "timestamp": utc_now(),
            "errors": _field_errors(error),
        },
        str,
    )


def _field_errors(error: errors.ServiceError) -> list[dict[str, str]]:
    listed = [
        {name: _cut(text, _MAX_FIELD_CHARACTERS) for name, text in fault._asdict().items()}
        for fault in error.errors[:_MAX_FIELD_ERRORS]
    ]
    omitted = error.more_errors + len(error.errors) - len(listed)
    if omitted:
        listed.append({"field": "", "message": f"{omitted} more errors are not listed.", "code": "omitted"})
    return listed


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def invalid_input(
    kind: type[errors.ServiceError], detail: str | None, faults: Sequence[Mapping[str, Any]], skip: int = 0
) -> errors.ServiceError:
    """Return the error for faults as pydantic describes them, without the first `skip` parts of each location."""
    listed = field_errors([(fault["loc"][skip:], fault["msg"], fault["type"]) for fault in faults[:_MAX_FIELD_ERRORS]])
    more = len(faults) - len(listed)
    if more and isinstance(faults, list):  # the exception that holds them lives until the next garbage collection
        del faults[_MAX_FIELD_ERRORS:]
    return kind(detail, errors=listed, more_errors=more)


def field_errors(faults: Sequence[tuple[Sequence[object], str, str]]) -> list[errors.FieldError]:
    """Turn (location, message, code) triples, as validation libraries report them, into field errors."""
    return [errors.FieldError(".".join(map(str, where)), message, code) for where, message, code in faults]
