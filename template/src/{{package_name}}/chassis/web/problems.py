"""Error responses as `application/problem+json` (RFC 9457), the same for exceptions from any source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

import structlog

from .. import errors, request_context
from ..app import Chassis
from ..formats import to_json, utc_now

MEDIA_TYPE = "application/problem+json"

# A response lists at most this many field errors and gives the number of the others, so that its size is bounded.
_MAX_FIELD_ERRORS = 50

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
    error_id = str(uuid4())
    context = request_context.current()
    if context is not None:
        context.error = cause
    if error.status >= 500:
        _report(chassis, cause, error, error_id)
    headers = {"content-type": MEDIA_TYPE, "cache-control": "no-store"} | error.headers()
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
            "detail": error.detail,
            "instance": f"urn:uuid:{error_id}",
            "error_code": error.error_code,
            "error_id": error_id,
            "request_id": context.request_id if context else None,
            "timestamp": utc_now(),
            "errors": [fault._asdict() for fault in _bounded(error.errors)],
        },
        str,
    )


def _bounded(faults: Sequence[errors.FieldError]) -> Sequence[errors.FieldError]:
    omitted = len(faults) - _MAX_FIELD_ERRORS
    if omitted <= 0:
        return faults
    return [*faults[:_MAX_FIELD_ERRORS], errors.FieldError("", f"{omitted} more errors are not listed.", "omitted")]


def field_errors(faults: Sequence[tuple[Sequence[object], str, str]]) -> list[errors.FieldError]:
    """Turn (location, message, code) triples, as validation libraries report them, into field errors."""
    return [errors.FieldError(".".join(map(str, where)), message, code) for where, message, code in faults]
