"""Calls to other services over HTTP: pooled clients with timeouts, retries and a circuit breaker each."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from pydantic import Field

from ..app import Chassis
from ..circuit_breaker import CircuitBreaker, is_unavailable
from ..errors import ServiceError, UnavailableError
from ..health.checks import Check, Outcome
from ..settings import BaseChassisSettings

# A gateway that cannot reach its service, and services that report themselves unavailable (RFC 9110, 15.6.3 to 15.6.5).
TRANSIENT_STATUSES = frozenset({502, 503, 504})
# The longest `Retry-After` that is passed on, even if a dependency asks for more.
_MAX_RETRY_AFTER_SECONDS = 3600
# httpx counts them as transport errors, but the request itself is wrong: a retry fails in the same way.
_REQUEST_FAULTS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)


class Settings(BaseChassisSettings):
    """Calls to other services"""

    retry_attempts: int = Field(3, ge=1, description="Attempts per call, including the first; 1 disables retries.")
    retry_wait_initial_seconds: float = Field(
        1.0, gt=0, description="Maximum pause before the first retry; it doubles with each further retry."
    )
    retry_wait_max_seconds: float = Field(10.0, gt=0, description="Maximum pause between two attempts.")
    retry_deadline_seconds: float = Field(
        20.0, gt=0, description="Time limit for all attempts and pauses; set it below REQUEST_TIMEOUT_SECONDS."
    )
    circuit_failure_threshold: int = Field(
        5, ge=1, description="Consecutive failures after which the circuit opens and calls are rejected."
    )
    circuit_recovery_seconds: float = Field(
        30.0, gt=0, description="Time after which a trial call checks whether the dependency is available again."
    )
    http_client_connect_timeout_seconds: float = Field(
        3.0, gt=0, description="Time limit for opening a connection to another service."
    )
    http_client_read_timeout_seconds: float = Field(
        5.0, gt=0, description="Time limit for each read from another service during a call."
    )
    http_client_timeout_seconds: float = Field(10.0, gt=0, description="Time limit for one attempt of a call.")
    http_client_max_connections: int = Field(50, ge=1, description="Maximum number of open connections per client.")


class CircuitCheck(Check):
    """Warns while a circuit is not closed. It is never critical, because the service works without this dependency."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        super().__init__(f"circuit_{breaker.name}", breaker.details)

    def evaluate(self, value: Any) -> Outcome:
        if value["state"] == "closed":
            return Outcome(details=value)
        return Outcome("warning", f"the circuit is {value['state'].replace('_', ' ')}", value)


class _Breakers(dict[str, CircuitBreaker]):
    """The circuit breakers of one service, by the names of its dependencies."""


def circuit_breaker(chassis: Chassis, name: str) -> CircuitBreaker:
    """Return the circuit breaker of a dependency; the first call creates it and registers its health check."""
    breakers = chassis.get_or_provide(_Breakers)
    if name not in breakers:
        settings = chassis.settings_as(Settings)
        breaker = CircuitBreaker(
            name,
            failure_threshold=settings.circuit_failure_threshold,
            recovery_seconds=settings.circuit_recovery_seconds,
            is_failure=is_transient,
        )
        # Another thread may have created it in the meantime.
        if breakers.setdefault(name, breaker) is breaker:
            chassis.health.add(CircuitCheck(breaker))
            chassis.measurements.append(breaker.measure)
    return breakers[name]


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


def install(chassis: Chassis) -> None:
    """Translate failures of other services into 503."""
    chassis.error_translators.append(translate)
