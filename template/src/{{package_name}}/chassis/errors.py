"""The errors that a service raises on purpose. Each has one status and one `error_code` on every framework."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar, NamedTuple

# The response to an error has another body, so these headers of the exception are dropped.
_BODY_HEADERS = ("content-type", "content-length")


def phrase(status: int) -> str:
    """Return the phrase of a status; an unregistered status has the phrase of its class (RFC 9110, 15)."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return HTTPStatus(status // 100 * 100).phrase


class FieldError(NamedTuple):
    """One error in the caller's input: the field (`title`, `tags.0`), a message, and a stable code."""

    field: str
    message: str
    code: str


class ServiceError(Exception):
    """The base class. `detail` is sent to the caller, so it must not contain anything internal.

    `more_errors` is the number of errors that `errors` leaves out. The names of `headers` are lower case.
    """

    status: int = 500
    error_code: str = "INTERNAL"
    default_detail: ClassVar[str] = "The service failed. Quote the error_id when you report it."
    default_headers: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        more_errors: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.detail = detail or self.default_detail
        self.errors = tuple(errors)
        self.more_errors = more_errors
        self._headers = dict(headers or {})
        super().__init__(self.detail)

    @property
    def title(self) -> str:
        """The status phrase, as RFC 9457 asks for where `type` is `about:blank`."""
        return phrase(self.status)

    def headers(self) -> dict[str, str]:
        """Return the headers that belong to this error."""
        return {**self.default_headers, **self._headers}


class InternalError(ServiceError):
    """An unexpected exception: the response says nothing about its cause."""


class BadRequestError(ServiceError):
    """The request is malformed: invalid JSON, an invalid parameter, or an unknown host."""

    status = 400
    error_code = "BAD_REQUEST"
    default_detail = "The request is malformed."


class UnauthenticatedError(ServiceError):
    """The caller is not authenticated; `challenge` names the scheme to use (RFC 9110, 11.6.1)."""

    status = 401
    error_code = "UNAUTHENTICATED"
    default_detail = "Credentials are missing or not valid."

    def __init__(self, detail: str | None = None, *, challenge: str = "Bearer") -> None:
        super().__init__(detail, headers={"www-authenticate": challenge})
        self.challenge = challenge


class PermissionDeniedError(ServiceError):
    """The caller is authenticated but not permitted to do this."""

    status = 403
    error_code = "PERMISSION_DENIED"
    default_detail = "This is not allowed."


class NotFoundError(ServiceError):
    """The resource or the path does not exist."""

    status = 404
    error_code = "NOT_FOUND"
    default_detail = "The resource does not exist."


class MethodNotAllowedError(ServiceError):
    """The path exists; `allow` lists its methods."""

    status = 405
    error_code = "METHOD_NOT_ALLOWED"
    default_detail = "The method is not allowed for this path."

    def __init__(self, allow: Sequence[str] = ()) -> None:
        super().__init__(headers={"allow": ", ".join(allow)})
        self.allow = tuple(allow)


class ConflictError(ServiceError):
    """The request conflicts with stored data, such as a duplicate or an outdated version."""

    status = 409
    error_code = "CONFLICT"
    default_detail = "The request conflicts with stored data."


class PreconditionFailedError(ServiceError):
    """The resource has changed since the caller read it (RFC 9110, 15.5.13)."""

    status = 412
    error_code = "PRECONDITION_FAILED"
    default_detail = "This has changed since you read it. Read it again, then repeat the change."


class PayloadTooLargeError(ServiceError):
    """The body is over `MAX_REQUEST_BODY_BYTES`."""

    status = 413
    error_code = "PAYLOAD_TOO_LARGE"
    default_detail = "The request body is too large."


class UnsupportedMediaTypeError(ServiceError):
    """The path does not accept bodies of this media type."""

    status = 415
    error_code = "UNSUPPORTED_MEDIA_TYPE"
    default_detail = "The Content-Type is not supported; send application/json."


class ValidationError(ServiceError):
    """The request is well-formed but invalid; `errors` names each field."""

    status = 422
    error_code = "VALIDATION_FAILED"
    default_detail = "Some fields are not valid."


class _RetryLaterError(ServiceError):
    """The caller may retry after `retry_after_seconds` (RFC 9110, 10.2.3)."""

    def __init__(self, detail: str | None = None, *, retry_after_seconds: int = 5) -> None:
        super().__init__(detail, headers={"retry-after": str(retry_after_seconds)})
        self.retry_after_seconds = retry_after_seconds


class RateLimitedError(_RetryLaterError):
    """The caller exceeds a rate limit."""

    status = 429
    error_code = "RATE_LIMITED"
    default_detail = "Too many requests."


class UnavailableError(_RetryLaterError):
    """A dependency of the service is unavailable."""

    status = 503
    error_code = "UNAVAILABLE"
    default_detail = "The service is temporarily unavailable."


class HeadersTooLargeError(ServiceError):
    """The request line and headers are over `MAX_REQUEST_HEAD_BYTES`."""

    status = 431
    error_code = "HEADERS_TOO_LARGE"
    default_detail = "The request headers are too large."
    default_headers: ClassVar[Mapping[str, str]] = {"connection": "close"}


class DeadlineExceededError(ServiceError):
    """The response did not begin within `REQUEST_TIMEOUT_SECONDS`."""

    status = 504
    error_code = "DEADLINE_EXCEEDED"
    default_detail = "The request took too long."


class RequestBodyTimeoutError(DeadlineExceededError):
    """The request body did not arrive within `REQUEST_TIMEOUT_SECONDS`."""

    status = 408
    default_detail = "The request body did not arrive in time."
    # The rest of the body may still be on its way (RFC 9110, 15.5.9).
    default_headers: ClassVar[Mapping[str, str]] = {"connection": "close"}


_ALL = (
    BadRequestError, UnauthenticatedError, PermissionDeniedError, NotFoundError, RequestBodyTimeoutError, ConflictError,
    PreconditionFailedError, PayloadTooLargeError, UnsupportedMediaTypeError, ValidationError, RateLimitedError,
    HeadersTooLargeError, UnavailableError, DeadlineExceededError,
)  # fmt: skip
BY_STATUS: dict[int, type[ServiceError]] = {error.status: error for error in _ALL}


def for_status(status: int, detail: str | None = None, headers: Iterable[tuple[str, str]] = ()) -> ServiceError:
    """Return the error for a status that a framework or a route raised, with its headers; a 5xx loses its detail."""
    error = BY_STATUS.get(status, ServiceError)(detail if status < 500 else None)
    if status != error.status:
        error.status = status
        error.error_code = phrase(status).upper().replace(" ", "_").replace("'", "")
    sent: dict[str, list[str]] = {}
    for name, value in headers:
        sent.setdefault(name.lower(), []).append(value)
    own = {name: ", ".join(values) for name, values in sent.items() if name not in _BODY_HEADERS}
    error._headers.update(own)
    return error
