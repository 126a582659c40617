"""The errors a service raises on purpose; whatever the framework, each becomes one status and one `error_code`."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import ClassVar, NamedTuple


def phrase(status: int) -> str:
    """Return the phrase of a status, or that of its class for one that is not registered (RFC 9110, 15)."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return HTTPStatus(status // 100 * 100).phrase


class FieldError(NamedTuple):
    """One fault of the caller's input: where (`title`, `tags.0`), what, and a stable code."""

    field: str
    message: str
    code: str


class ServiceError(Exception):
    """Base of all: `detail` is written for the caller, so it never holds anything internal."""

    status: int = 500
    error_code: str = "INTERNAL"
    default_detail: ClassVar[str] = "The service failed. Quote the error_id when you report it."

    def __init__(self, detail: str | None = None, *, errors: Sequence[FieldError] = ()) -> None:
        self.detail = detail or self.default_detail
        self.errors = tuple(errors)
        super().__init__(self.detail)

    @property
    def title(self) -> str:
        """The status phrase, as RFC 9457 asks for where `type` is `about:blank`."""
        return phrase(self.status)

    def headers(self) -> dict[str, str]:
        """Return the headers that belong to this status."""
        return {}


class InternalError(ServiceError):
    """Anything that nobody expected: the answer says nothing of the cause."""


class BadRequestError(ServiceError):
    """The request cannot be read: malformed JSON, a malformed parameter, a host that is not served."""

    status = 400
    error_code = "BAD_REQUEST"
    default_detail = "The request cannot be read."


class UnauthenticatedError(ServiceError):
    """Nobody is signed in; `challenge` tells the client how to (RFC 9110, 11.6.1)."""

    status = 401
    error_code = "UNAUTHENTICATED"
    default_detail = "Credentials are missing or not valid."

    def __init__(self, detail: str | None = None, *, challenge: str = "Bearer") -> None:
        super().__init__(detail)
        self.challenge = challenge

    def headers(self) -> dict[str, str]:
        return {"www-authenticate": self.challenge}


class PermissionDeniedError(ServiceError):
    """Somebody is signed in, and may not do this."""

    status = 403
    error_code = "PERMISSION_DENIED"
    default_detail = "This is not allowed."


class NotFoundError(ServiceError):
    """There is no such thing, or no such path."""

    status = 404
    error_code = "NOT_FOUND"
    default_detail = "There is nothing here."


class MethodNotAllowedError(ServiceError):
    """The path exists; `allow` are the methods it answers."""

    status = 405
    error_code = "METHOD_NOT_ALLOWED"
    default_detail = "The method is not allowed here."

    def __init__(self, allow: Sequence[str] = ()) -> None:
        super().__init__()
        self.allow = tuple(allow)

    def headers(self) -> dict[str, str]:
        return {"allow": ", ".join(self.allow)}


class ConflictError(ServiceError):
    """The request contradicts what is stored: a duplicate, an outdated version."""

    status = 409
    error_code = "CONFLICT"
    default_detail = "This contradicts what is stored."


class PayloadTooLargeError(ServiceError):
    """The body is over `MAX_REQUEST_BODY_BYTES`."""

    status = 413
    error_code = "PAYLOAD_TOO_LARGE"
    default_detail = "The request body is too large."


class UnsupportedMediaTypeError(ServiceError):
    """The body is not in a form that this path reads."""

    status = 415
    error_code = "UNSUPPORTED_MEDIA_TYPE"
    default_detail = "The Content-Type is not supported; send application/json."


class ValidationError(ServiceError):
    """The request can be read and is not right; `errors` names each field."""

    status = 422
    error_code = "VALIDATION_FAILED"
    default_detail = "Some fields are not valid."


class _RetryLaterError(ServiceError):
    """Try again after `retry_after_seconds` (RFC 9110, 10.2.3)."""

    def __init__(self, detail: str | None = None, *, retry_after_seconds: int = 5) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds

    def headers(self) -> dict[str, str]:
        return {"retry-after": str(self.retry_after_seconds)}


class RateLimitedError(_RetryLaterError):
    """The caller asks too often."""

    status = 429
    error_code = "RATE_LIMITED"
    default_detail = "Too many requests."


class UnavailableError(_RetryLaterError):
    """Something that the answer depends on is down."""

    status = 503
    error_code = "UNAVAILABLE"
    default_detail = "The service is not available for the moment."


class DeadlineExceededError(ServiceError):
    """The answer took longer than `REQUEST_TIMEOUT_SECONDS`."""

    status = 504
    error_code = "DEADLINE_EXCEEDED"
    default_detail = "The request took too long."


_ALL = (
    BadRequestError, UnauthenticatedError, PermissionDeniedError, NotFoundError, ConflictError, PayloadTooLargeError,
    UnsupportedMediaTypeError, ValidationError, RateLimitedError, UnavailableError, DeadlineExceededError,
)  # fmt: skip
BY_STATUS: dict[int, type[ServiceError]] = {error.status: error for error in _ALL}


def for_status(status: int, detail: str | None = None) -> ServiceError:
    """Return the error for a status that a framework or a route raised; what a 5xx says of itself is not passed on."""
    detail = detail if status < 500 else None
    if status in BY_STATUS:
        return BY_STATUS[status](detail)
    error = ServiceError(detail)
    error.status = status
    if status != ServiceError.status:
        error.error_code = phrase(status).upper().replace(" ", "_").replace("'", "")
    return error
