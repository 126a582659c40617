"""What the failure of a dependency means: whether another try may help, and what the caller of this service is told."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from ..errors import ServiceError, UnavailableError

# A gateway that cannot reach its service, and services that say that they are away (RFC 9110, 15.6.3 to 15.6.5).
TRANSIENT_STATUSES = frozenset({502, 503, 504})
# What a caller is told to wait at most, however long a dependency asks for.
_MAX_RETRY_AFTER_SECONDS = 3600
# Transport errors by name, faults of this service by nature: they will be no better the next time.
_OWN_FAULTS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)


class CircuitOpenError(UnavailableError):
    """A dependency has failed so often of late that it is not called for a while."""


def is_transient(error: BaseException) -> bool:
    """Tell whether another try may help: nothing that answered, answered wrongly because of what was asked."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in TRANSIENT_STATUSES
    if isinstance(error, httpx.TransportError):
        return not isinstance(error, _OWN_FAULTS)
    return isinstance(error, UnavailableError) and not isinstance(error, CircuitOpenError)


def translate(error: BaseException) -> ServiceError | None:
    """Return 503 for another service that cannot be reached, or that fails whatever it is asked."""
    failed = isinstance(error, httpx.HTTPStatusError) and error.response.status_code >= 500
    if not failed and (not isinstance(error, httpx.RequestError) or isinstance(error, _OWN_FAULTS)):
        return None
    seconds = asked_to_wait(error)
    if seconds is None:
        return UnavailableError()
    return UnavailableError(retry_after_seconds=min(max(1, round(seconds)), _MAX_RETRY_AFTER_SECONDS))


def asked_to_wait(error: BaseException) -> float | None:
    """Return how many seconds a dependency asks to be left alone: `Retry-After`, a number or a date (RFC 9110, 10.2.3).

    None when it says nothing, or nothing that can be read.
    """
    header = error.response.headers.get("retry-after", "") if isinstance(error, httpx.HTTPStatusError) else ""
    if header.isascii() and header.isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return None
    # The date is in GMT; one that says nothing of its zone cannot mean anything else.
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
