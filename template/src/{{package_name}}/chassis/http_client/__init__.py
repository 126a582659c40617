"""Calls to other services over HTTP: pooled clients with timeouts, retries and a circuit breaker each."""

from __future__ import annotations

from typing import Any

import stamina.instrumentation
import structlog
from pydantic import Field

from ..app import Chassis
from ..circuit_breaker import CircuitBreaker
from ..health.checks import Check, Outcome
from ..settings import BaseChassisSettings
from . import failures

log = structlog.get_logger(__name__)


class Settings(BaseChassisSettings):
    """Calls to other services"""

    retry_attempts: int = Field(3, ge=1, description="Tries per call, including the first; 1 disables retries.")
    retry_wait_initial_seconds: float = Field(
        1.0, gt=0, description="Maximum pause before the first retry; it doubles with each further retry."
    )
    retry_wait_max_seconds: float = Field(10.0, gt=0, description="Maximum pause between two tries.")
    retry_deadline_seconds: float = Field(
        20.0, gt=0, description="Time limit for all tries and pauses of a call; set it below REQUEST_TIMEOUT_SECONDS."
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
    http_client_timeout_seconds: float = Field(10.0, gt=0, description="Time limit for one whole try of a call.")
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
            is_failure=failures.is_transient,
        )
        # Another thread may have created it in the meantime.
        if breakers.setdefault(name, breaker) is breaker:
            chassis.health.add(CircuitCheck(breaker))
    return breakers[name]


def install(chassis: Chassis) -> None:
    """Translate failures of other services into 503, and log each retry."""
    chassis.error_translators.append(failures.translate)
    stamina.instrumentation.set_on_retry_hooks([_log_retry])


def _log_retry(details: stamina.instrumentation.RetryDetails) -> None:
    """Log a retry without the arguments of the call, which stamina's own hook would log."""
    log.warning(
        "retry_scheduled",
        operation=details.name,
        failures=details.retry_num,
        wait_seconds=round(details.wait_for, 3),
        cause=type(details.caused_by).__name__,
    )
