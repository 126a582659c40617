"""The meaning of failed calls: whether a retry may help, and which error the caller of this service gets."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from ..circuit_breaker import is_unavailable
from ..errors import ServiceError, UnavailableError

# A gateway that cannot reach its service, and services that report themselves unavailable (RFC 9110, 15.6.3 to 15.6.5).
TRANSIENT_STATUSES = frozenset({502, 503, 504})
# The longest `Retry-After` that is passed on, even if a dependency asks for more.
_MAX_RETRY_AFTER_SECONDS = 3600
# httpx counts them as transport errors, but the request itself is wrong: a retry fails in the same way.
_REQUEST_FAULTS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)


def is_transient(error: BaseException) -> bool:
    """Return whether a retry may help: the service was not reached, or responded that it is unavailable."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in TRANSIENT_STATUSES
    if isinstance(error, httpx.TransportError):
        return not isinstance(error, _REQUEST_FAULTS)
    return is_unavailable(error)


def translate(error: BaseException) -> ServiceError | None:
    """Return `UnavailableError` for a service that cannot be reached or answers 5xx, else None."""
    failed = isinstance(error, httpx.HTTPStatusError) and error.response.status_code >= 500
    if not failed and (not isinstance(error, httpx.RequestError) or isinstance(error, _REQUEST_FAULTS)):
        return None
    seconds = retry_after_seconds(error)
    if seconds is None:
        return UnavailableError()
    return UnavailableError(retry_after_seconds=min(max(1, round(seconds)), _MAX_RETRY_AFTER_SECONDS))


def retry_after_seconds(error: BaseException) -> float | None:
    """Return the `Retry-After` of a failed response in seconds; it may be a number or a date (RFC 9110, 10.2.3).

    A missing or malformed header yields None.
    """
    header = error.response.headers.get("retry-after", "") if isinstance(error, httpx.HTTPStatusError) else ""
    if header.isascii() and header.isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return None
    # HTTP dates are always in GMT.
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
