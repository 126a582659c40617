"""Ready-made checks for what a service of your own watches; register one with `service.health.add(...)`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx

from .registry import Check, CheckFailedError, Outcome


class Upstream(Check):
    """Another service over HTTP: it answers `expected_status` at `url` within `timeout_seconds`."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        expected_status: int = 200,
        timeout_seconds: float = 1.5,
        critical: bool = False,
    ) -> None:
        def measure() -> dict[str, Any]:
            try:
                status = httpx.get(url, timeout=timeout_seconds).status_code
            except httpx.TimeoutException:
                raise CheckFailedError(f"no answer within {timeout_seconds} s") from None
            except httpx.HTTPError:
                raise CheckFailedError("cannot be reached") from None
            if status != expected_status:
                raise CheckFailedError(f"answered {status}, expected {expected_status}")
            return {"status_code": status}

        super().__init__(name, measure, critical)


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Freshness(Check):
    """The newest record is not older than `max_age`. `measure` returns its time (aware), or None when there is none."""

    measure: Callable[[], datetime | Awaitable[datetime | None] | None]
    critical: bool = False
    max_age: timedelta = timedelta(hours=24)
    now: Callable[[], datetime] = _utc_now

    def judge(self, measured: Any) -> Outcome:
        if measured is None:
            return Outcome("error", "there is no record", {"newest": None})
        age = self.now() - measured
        details = {"newest": measured.isoformat(), "age_seconds": round(age.total_seconds(), 1)}
        if age > self.max_age:
            return Outcome("error", f"the newest record is older than {self.max_age}", details)
        return Outcome(details=details)


@dataclass(slots=True)
class Gaps(Check):
    """Every one of the last `days` days has a record. `measure` returns the days that have one; gaps are listed.

    With `since_first` nothing is missed before the first of those days, which may be long ago, nor where there is none.
    """

    measure: Callable[[], Iterable[date] | Awaitable[Iterable[date]]]
    critical: bool = False
    days: int = 7
    since_first: bool = False
    now: Callable[[], datetime] = _utc_now

    def judge(self, measured: Any) -> Outcome:
        present = set(measured)
        today = self.now().date()
        first = min(present, default=today) if self.since_first else date.min
        wanted = [day for back in range(self.days, 0, -1) if (day := today - timedelta(days=back)) >= first]
        gaps = [day.isoformat() for day in wanted if day not in present]
        if gaps:
            return Outcome("warning", f"{len(gaps)} of the last {self.days} days have no record", {"gaps": gaps})
        return Outcome(details={"gaps": []})


@dataclass(slots=True)
class Threshold(Check):
    """A number that should stay high: a balance, a reserve ratio. Warn below `warn_below`, fail below `fail_below`.

    For one that should stay low (a queue), let `measure` return what is still free.
    """

    measure: Callable[[], float | Awaitable[float]]
    critical: bool = False
    warn_below: float = field(default=0.0)
    fail_below: float = field(default=0.0)

    def judge(self, measured: Any) -> Outcome:
        details = {"value": measured, "warn_below": self.warn_below, "fail_below": self.fail_below}
        if measured < self.fail_below:
            return Outcome("error", f"below {self.fail_below}", details)
        if measured < self.warn_below:
            return Outcome("warning", f"below {self.warn_below}", details)
        return Outcome(details=details)
