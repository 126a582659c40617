"""Health checks: what they are, where they are registered, and what their results add up to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warning", "error", "timeout"]
Overall = Literal["healthy", "degraded", "unhealthy"]


# The share of the time for what answers in milliseconds, or not at all. With the defaults, and a result that was just
# kept, the truth is told within two seconds.
QUICK = 0.4


class CheckFailedError(Exception):
    """Raised by a measurement, with a phrase fit for anybody: no host, no user, no driver's text."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found: its status, a safe phrase for anything but `ok`, and what it wants to show."""

    status: Status = "ok"
    error: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Check:
    """One thing to watch. `measure` (synchronous or asynchronous) raises when it is down; what it returns is judged.

    A synchronous measurement runs in a thread, so it may block. What `show` returns is shown whatever was found, even
    while the measurement fails or hangs; it must not wait for anything. `timeout_share` is the part of
    `HEALTH_CHECK_TIMEOUT_SECONDS` that it may take.
    """

    name: str
    measure: Callable[[], Any | Awaitable[Any]]
    critical: bool = False
    show: Callable[[], Mapping[str, Any]] = dict
    timeout_share: float = 1.0

    def judge(self, measured: Any) -> Outcome:
        """Say what the measured value means; a mapping is shown as details."""
        return Outcome(details=measured if isinstance(measured, Mapping) else {})


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one check. Times: `latency_ms` in milliseconds, `last_success` in RFC 3339."""

    check: Check
    outcome: Outcome
    latency_ms: float
    last_success: str | None

    @property
    def passed(self) -> bool:
        return self.outcome.status in ("ok", "warning")

    def as_dict(self) -> dict[str, Any]:
        return {
            "status": self.outcome.status,
            "critical": self.check.critical,
            "latency_ms": round(self.latency_ms, 2),
            "last_success": self.last_success,
            "error": self.outcome.error,
            "details": dict(self.outcome.details),
        }


class HealthRegistry:
    """The checks of the service, each registered where the thing that it watches is made."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def add(self, check: Check) -> None:
        """Register a check.

        Raises:
            ValueError: another check has this name.
        """
        if any(other.name == check.name for other in self.checks):
            raise ValueError(f"a health check named {check.name!r} is registered already; choose another name")
        self.checks.append(check)


def overall(results: list[Result]) -> Overall:
    """Add up: a critical failure is unhealthy; any other failure or a warning is degraded."""
    if any(result.check.critical and not result.passed for result in results):
        return "unhealthy"
    if any(result.outcome.status != "ok" for result in results):
        return "degraded"
    return "healthy"
