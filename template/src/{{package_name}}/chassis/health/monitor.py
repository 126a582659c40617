"""What both ways of running checks share: one run's bookkeeping, and the bodies of the four endpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Thread
from typing import Any

import structlog

from ..json_text import to_json
from ..logging import utc_now
from ..service import Service
from .registry import Check, CheckFailedError, Outcome, Result, overall

PATHS = frozenset({"/health", "/health/live", "/health/started", "/health/ready"})
HEADERS = {"content-type": "application/json", "cache-control": "no-store"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement: what it returned or how it failed, and how long it took in milliseconds."""

    latency_ms: float
    measured: Any = None
    failure: BaseException | None = None


class Monitor:
    """The results of the checks, kept for `health_check_interval_seconds`. Subclasses say how checks are awaited."""

    def __init__(self, service: Service, clock: Callable[[], float] = time.monotonic) -> None:
        self.service = service
        self._timeout_seconds: float = service.settings.health_check_timeout_seconds
        self._interval_seconds: float = service.settings.health_check_interval_seconds
        self._clock = clock
        self._fresh_until = float("-inf")
        self._results: list[Result] = []
        self._last_success: dict[str, str] = {}
        self._running: dict[str, Future[Run]] = {}

    def kept(self) -> list[Result] | None:
        """Return the results while they are fresh, else None."""
        return self._results if self._clock() < self._fresh_until else None

    def keep(self, results: list[Result]) -> list[Result]:
        self._results = results
        self._fresh_until = self._clock() + self._interval_seconds
        return results

    def start(self, check: Check) -> Future[Run]:
        """Start a measurement in a thread; one that still hangs is not started again, so threads cannot pile up."""
        running = self._running.get(check.name)
        if running is not None and not running.done():
            return running
        self._running[check.name] = future = Future[Run]()
        # A daemon: a check that hangs must not keep the process from ending.
        Thread(target=lambda: future.set_result(self._measure(check)), name=f"health-{check.name}", daemon=True).start()
        return future

    def limit_seconds(self, check: Check) -> float:
        """Return how long a measurement may take."""
        return self._timeout_seconds * check.timeout_share

    def late(self, check: Check) -> Run:
        """Return what stands for a measurement that is not back in time."""
        return Run(self.limit_seconds(check) * 1000, failure=TimeoutError())

    def result(self, check: Check, run: Run) -> Result:
        """Judge one run; a failure never shows its own text."""
        outcome = self._outcome(check, run.measured, run.failure)
        outcome = replace(outcome, details={**self._shown(check), **outcome.details})
        if outcome.status in ("ok", "warning"):
            self._last_success[check.name] = utc_now()
        elif run.failure is not None:
            log.warning("health_check_failed", check=check.name, error=outcome.error, cause=type(run.failure).__name__)
        return Result(check, outcome, run.latency_ms, self._last_success.get(check.name))

    @staticmethod
    def _measure(check: Check) -> Run:
        began = time.perf_counter()
        try:
            measured, failure = check.measure(), None
        except Exception as error:
            measured, failure = None, error
        return Run((time.perf_counter() - began) * 1000, measured, failure)

    def _outcome(self, check: Check, measured: Any, failure: BaseException | None) -> Outcome:
        if failure is None:
            try:
                return check.judge(measured)
            except Exception as error:
                failure = error
        if isinstance(failure, CheckFailedError):
            return Outcome("error", str(failure))
        if isinstance(failure, TimeoutError):
            return Outcome("timeout", f"no result within {self.limit_seconds(check):g} s")
        return Outcome("error", "the check failed")

    @staticmethod
    def _shown(check: Check) -> Mapping[str, Any]:
        try:
            return check.show()
        except Exception as error:
            log.warning("health_details_missing", check=check.name, cause=type(error).__name__)
            return {}

    # -- the endpoints -------------------------------------------------------------------------------------------------

    def without_checks(self, path: str) -> tuple[int, bytes] | None:
        """Return the answers that need no check, else None: a dependency that hangs must not delay them."""
        if path == "/health/live":
            return 200, b'{"status":"alive"}'
        if path == "/health/started":
            return self._started()
        if path == "/health/ready" and self.service.lifecycle.draining:
            return 503, b'{"status":"draining"}'
        if path == "/health/ready" and not self.service.lifecycle.started:
            return 503, b'{"status":"starting"}'
        return None

    def with_checks(self, path: str, results: list[Result]) -> tuple[int, bytes]:
        return self._ready(results) if path == "/health/ready" else self._report(results)

    def _started(self) -> tuple[int, bytes]:
        return (200, b'{"status":"started"}') if self.service.lifecycle.started else (503, b'{"status":"starting"}')

    def _ready(self, results: list[Result]) -> tuple[int, bytes]:
        if overall(results) == "unhealthy":
            return 503, b'{"status":"not ready"}'
        return 200, b'{"status":"ready"}'

    def _report(self, results: list[Result]) -> tuple[int, bytes]:
        settings, lifecycle = self.service.settings, self.service.lifecycle
        status = overall(results)
        started_at = lifecycle.started_at
        body = {
            "status": status,
            "timestamp": utc_now(),
            "version": f"{settings.service_name}@v{settings.service_version}",
            "environment": settings.environment,
            "started_at": started_at.isoformat().replace("+00:00", "Z") if started_at else None,
            "uptime_seconds": round(lifecycle.uptime_seconds, 3),
            "checks": {result.check.name: result.as_dict() for result in results},
        }
        return (503 if status == "unhealthy" else 200), to_json(body, str)
