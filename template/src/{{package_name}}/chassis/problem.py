"""Error bodies as `application/problem+json` (RFC 9457), the same whatever raised and wherever it was raised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

import structlog

from . import errors, request_context
from .health.monitor import PATHS
from .json_text import to_json
from .logging import utc_now
from .service import Service

MEDIA_TYPE = "application/problem+json"

log = structlog.get_logger(__name__)


class Answer(NamedTuple):
    """A whole response, in a form that every framework can send. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def answer(service: Service, cause: BaseException, error: errors.ServiceError | None = None) -> Answer:
    """Turn whatever was raised into the answer the caller gets; a 5xx is logged here, and reported, once.

    `error` is what the cause means, where the framework says so itself.
    """
    error = error or meaning(service, cause)
    error_id = str(uuid4())
    if error.status >= 500:
        _report(service, cause, error, error_id)
    body = _body(error, error_id)
    return Answer(error.status, {"content-type": MEDIA_TYPE, "cache-control": "no-store"} | error.headers(), body)


def meaning(service: Service, cause: BaseException) -> errors.ServiceError:
    """Return the error that stands for whatever was raised; the features translate what they know."""
    if isinstance(cause, errors.ServiceError):
        return cause
    for translate in service.translators:
        error = translate(cause)
        if error is not None:
            return error
    return errors.InternalError()


def _report(service: Service, cause: BaseException, error: errors.ServiceError, error_id: str) -> None:
    log.error("request_failed", error_id=error_id, error_code=error.error_code, exc_info=cause)
    context = request_context.current()
    if context is not None and context.path in PATHS:
        return  # probes are no traffic: what fails of them is in the log, and nowhere else
    for report in service.error_reporters:
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
            "errors": [fault._asdict() for fault in error.errors],
        },
        str,
    )


def fields(faults: Sequence[tuple[Sequence[object], str, str]]) -> list[errors.FieldError]:
    """Turn (location, message, code) triples, as validation libraries give them, into field errors."""
    return [errors.FieldError(".".join(map(str, where)), message, code) for where, message, code in faults]
