"""Health checks: the base class, ready-made checks, the registry, and the overall status.

Register a check next to the code that it monitors: `chassis.health.add(Check("queue", probe))`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from pydantic import Field

from ..formats import redact
from ..settings import BaseChassisSettings

Status = Literal["ok", "warning", "error", "timeout"]
Overall = Literal["healthy", "degraded", "unhealthy"]

# The fraction of the timeout for a dependency that responds in milliseconds or not at all. With the default settings,
# the report shows its failure within two seconds, even if a result was just cached.
QUICK = 0.4


class Settings(BaseChassisSettings):
    """Health"""

    health_check_timeout_seconds: float = Field(
        2.0,
        gt=0,
        description="Time limit for one check; a check of the database has 40 % of it, and `/health/ready` waits for "
        "25 % of it.",
    )
    health_check_cache_seconds: float = Field(
        1.0, ge=0, description="How long results are cached, so that probes do not load the dependencies."
    )


class CheckFailedError(Exception):
    """Raised by a probe with a phrase that is safe to publish: without host, user or the driver's message."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a check: its status, a safe phrase unless it is `ok`, and details to show."""

    status: Status = "ok"
    error: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Check:
    """A health check of one dependency or condition.

    Args:
        name: Its key in the report.
        probe: Raises if the check fails; `evaluate` interprets what it returns. A coroutine function runs on the
            event loop. A plain function runs in a thread and may block.
        critical: Whether a failure makes the service unhealthy and not ready.
        details: Returns values to show with every result, even while the probe hangs. It must not block.
        timeout_fraction: The part of `HEALTH_CHECK_TIMEOUT_SECONDS` that the probe may take.
        cache_seconds: How long a result is cached; by default `HEALTH_CHECK_CACHE_SECONDS`.
    """

    name: str
    probe: Callable[[], Any | Awaitable[Any]]
    critical: bool = False
    details: Callable[[], Mapping[str, Any]] = dict
    timeout_fraction: float = 1.0
    cache_seconds: float | None = None

    def evaluate(self, value: Any) -> Outcome:
        """Return the result for the probe's value; a mapping is shown as details."""
        return Outcome(details=value if isinstance(value, Mapping) else {})


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Freshness(Check):
    """The newest record is not older than `max_age`. `probe` returns its time (aware), or None without records."""

    probe: Callable[[], datetime | Awaitable[datetime | None] | None]
    critical: bool = False
    max_age: timedelta = timedelta(hours=24)
    now: Callable[[], datetime] = _utc_now

    def evaluate(self, value: Any) -> Outcome:
        if value is None:
            return Outcome("error", "there are no records", {"newest": None})
        age = self.now() - value
        details = {"newest": value.isoformat(), "age_seconds": round(age.total_seconds(), 1)}
        if age > self.max_age:
            return Outcome("error", f"the newest record is older than {self.max_age}", details)
        return Outcome(details=details)


@dataclass(slots=True)
class MissingDays(Check):
    """Each of the last `days` days has a record. `probe` returns the days that have one; missing days are listed.

    With `since_first`, days before the first of those days do not count as missing.
    """

    probe: Callable[[], Iterable[date] | Awaitable[Iterable[date]]]
    critical: bool = False
    days: int = 7
    since_first: bool = False
    now: Callable[[], datetime] = _utc_now

    def evaluate(self, value: Any) -> Outcome:
        present = set(value)
        today = self.now().date()
        first = min(present, default=today) if self.since_first else date.min
        expected = [day for back in range(self.days, 0, -1) if (day := today - timedelta(days=back)) >= first]
        missing = [day.isoformat() for day in expected if day not in present]
        if missing:
            phrase = f"{len(missing)} of the last {self.days} days have no records"
            return Outcome("warning", phrase, {"missing_days": missing})
        return Outcome(details={"missing_days": []})


@dataclass(slots=True)
class Threshold(Check):
    """A number that should stay high, such as a balance: a warning below `warn_below`, an error below `fail_below`.

    For a number that should stay low, such as a queue's length, let `probe` return the capacity that is left.
    """

    probe: Callable[[], float | Awaitable[float]]
    critical: bool = False
    warn_below: float = 0.0
    fail_below: float = 0.0

    def evaluate(self, value: Any) -> Outcome:
        details = {"value": value, "warn_below": self.warn_below, "fail_below": self.fail_below}
        if value < self.fail_below:
            return Outcome("error", f"below {self.fail_below}", details)
        if value < self.warn_below:
            return Outcome("warning", f"below {self.warn_below}", details)
        return Outcome(details=details)


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one check, with `latency_ms` in milliseconds and `last_success` in RFC 3339."""

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
            "details": redact(self.outcome.details, default=str),
        }


class HealthRegistry:
    """The checks of the service."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    @property
    def critical_checks(self) -> list[Check]:
        return [check for check in self.checks if check.critical]

    def add(self, check: Check) -> None:
        """Register a check.

        Raises:
            ValueError: Another check has this name.
        """
        if any(other.name == check.name for other in self.checks):
            raise ValueError(f"a health check named {check.name!r} is already registered; choose another name")
        self.checks.append(check)


def overall(results: list[Result]) -> Overall:
    """Return the overall status: unhealthy after a critical failure, degraded after another failure or a warning."""
    if any(result.check.critical and not result.passed for result in results):
        return "unhealthy"
    if any(result.outcome.status != "ok" for result in results):
        return "degraded"
    return "healthy"
