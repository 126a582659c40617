"""The four health endpoints, and the checks behind them: results are cached, and one run serves all waiting probes."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from threading import Thread
from typing import Any, get_args

import structlog

from ..formats import to_json, utc_now
from ..instrumentation import Measurement
from ..lifecycle import Lifecycle
from ..settings import ServiceSettings, SettingsError
from .checks import Check, CheckFailedError, HealthRegistry, Outcome, Result, Settings, Status, overall

log = structlog.get_logger(__name__)

PATHS = frozenset({"/health", "/health/live", "/health/started", "/health/ready"})
HEADERS = {"content-type": "application/json", "cache-control": "no-store"}
_Probe = asyncio.Task[tuple[Any, BaseException | None]]
# The fraction of the timeout for which readiness waits: by default half a second. Kubernetes gives up after one.
_READY_FRACTION = 0.25


class HealthEndpoints:
    """Status and body for each of `PATHS`, which the middleware answers itself: no routes, limits or log entries."""

    def __init__(
        self, registry: HealthRegistry, monitor: HealthMonitor, lifecycle: Lifecycle, settings: ServiceSettings
    ) -> None:
        self._registry = registry
        self._monitor = monitor
        self._lifecycle = lifecycle
        self._settings = settings

    async def respond(self, path: str) -> tuple[int, bytes]:
        """Return status and JSON body. Liveness and startup never wait for checks, readiness only for critical ones."""
        if path == "/health/live":
            return 200, b'{"status":"alive"}'
        if path == "/health/started":
            return (200, b'{"status":"started"}') if self._lifecycle.started else (503, b'{"status":"starting"}')
        if path == "/health/ready":
            return await self._ready()
        return self._report(await self._monitor.results(self._registry.checks))

    async def _ready(self) -> tuple[int, bytes]:
        if self._lifecycle.draining:
            return 503, b'{"status":"draining"}'
        if not self._lifecycle.started:
            return 503, b'{"status":"starting"}'
        results = await self._monitor.results(self._registry.critical_checks, _READY_FRACTION)
        if overall(results) == "unhealthy":
            return 503, b'{"status":"not ready"}'
        return 200, b'{"status":"ready"}'

    async def measure(self) -> list[Measurement]:
        """Return readiness, and status and latency of each check. It uses the same cached results as probes."""
        results = await self._monitor.results(self._registry.checks)
        status, _ = await self._ready()
        measured = [Measurement("health.ready", "Whether the service is ready (1) or not (0).", float(status == 200))]
        for result in results:
            name = {"check": result.check.name}
            latency = Measurement(
                "health.check.latency", "Duration of a health check.", result.latency_ms / 1000, name, unit="s"
            )
            description = "1 for the status that a health check has, 0 for the others."
            critical = {"critical": str(result.check.critical).lower()}
            measured.append(latency)
            for status_name in get_args(Status):
                value = float(result.outcome.status == status_name)
                labels = name | critical | {"status": status_name}
                measured.append(Measurement("health.check.status", description, value, labels))
        return measured

    def _report(self, results: list[Result]) -> tuple[int, bytes]:
        settings, lifecycle = self._settings, self._lifecycle
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
        return (503 if status == "unhealthy" else 200), to_json(body)


class HealthMonitor:
    """Runs the checks concurrently on the event loop, and caches each result for its own time."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_seconds = settings.health_check_timeout_seconds
        self._cache_seconds = settings.health_check_cache_seconds
        self._clock = clock
        # The last result of each check, with the time until which it is fresh.
        self._cached: dict[str, tuple[Result, float]] = {}
        self._flights: dict[str, asyncio.Task[Result]] = {}
        self._probes: dict[str, _Probe] = {}
        self._last_success: dict[str, str] = {}

    async def results(self, checks: Sequence[Check], timeout_fraction: float | None = None) -> list[Result]:
        """Return the result of each check; checks without a cached result run concurrently.

        With `timeout_fraction`, return after this part of `HEALTH_CHECK_TIMEOUT_SECONDS`. A check that is still running
        then has its previous result if that has only just expired. Otherwise it has timed out.
        """
        found = {check.name: self._cached_result(check) or self._flight(check) for check in checks}
        flights = [flight for flight in found.values() if isinstance(flight, asyncio.Task)]
        if flights:  # a probe that gives up does not cancel a run that others wait for
            wait_seconds = None if timeout_fraction is None else self._timeout_seconds * timeout_fraction
            await asyncio.wait(flights, timeout=wait_seconds)
        return [await self._settled(check, found[check.name]) for check in checks]

    def _cached_result(self, check: Check, grace_seconds: float = 0.0) -> Result | None:
        result, fresh_until = self._cached.get(check.name, (None, 0.0))
        return result if self._clock() < fresh_until + grace_seconds else None

    def _flight(self, check: Check) -> asyncio.Task[Result]:
        flight = self._flights.get(check.name)
        if flight is None or flight.done():
            flight = self._flights[check.name] = asyncio.create_task(self._run(check))
        return flight

    async def _settled(self, check: Check, found: Result | asyncio.Task[Result]) -> Result:
        if isinstance(found, Result):
            return found
        if found.done():
            return await found
        timed_out = Result(check, Outcome("timeout", "no result yet"), 0.0, self._last_success.get(check.name))
        return self._cached_result(check, self._timeout_seconds) or timed_out

    async def _run(self, check: Check) -> Result:
        timeout_seconds = self._timeout_seconds * check.timeout_fraction
        began = time.perf_counter()
        probe = self._probes.get(check.name)
        # A probe that hangs is not started again, so that threads and connections do not pile up.
        if probe is None or probe.done():
            probe = self._probes[check.name] = asyncio.create_task(_probe(check))
        # A probe may ignore its cancellation, so nothing waits for its end.
        await asyncio.wait([probe], timeout=timeout_seconds)
        value, failure = await probe if probe.done() and not probe.cancelled() else (None, TimeoutError())
        if not probe.done() and inspect.iscoroutinefunction(check.probe):
            probe.cancel()
        outcome = _outcome(check, value, failure, timeout_seconds)
        if outcome.status in ("ok", "warning"):
            self._last_success[check.name] = utc_now()
        latency_ms = (time.perf_counter() - began) * 1000
        result = Result(check, outcome, latency_ms, self._last_success.get(check.name))
        cache_seconds = self._cache_seconds if check.cache_seconds is None else check.cache_seconds
        self._cached[check.name] = (result, self._clock() + cache_seconds)
        return result


async def _probe(check: Check) -> tuple[Any, BaseException | None]:
    """Return the value of the probe, or its failure."""
    try:
        if inspect.iscoroutinefunction(check.probe):
            return await check.probe(), None
        value, failure = await asyncio.wrap_future(_start_thread(check))
        return await value if inspect.isawaitable(value) else value, failure
    except Exception as error:
        return None, error


def _start_thread(check: Check) -> Future[tuple[Any, BaseException | None]]:
    """Start a thread for the probe alone, so that hanging checks take no threads from others."""
    future = Future[tuple[Any, BaseException | None]]()

    def run() -> None:
        try:
            future.set_result((check.probe(), None))
        except BaseException as error:  # even `SystemExit` is a failure: otherwise the check would never end
            future.set_result((None, error))

    future.set_running_or_notify_cancel()  # from now on only the end of the probe completes the future
    # A daemon thread: a hanging check must not keep the process from ending.
    Thread(target=run, name=f"health-{check.name}", daemon=True).start()
    return future


def _outcome(check: Check, value: Any, failure: BaseException | None, timeout_seconds: float) -> Outcome:
    try:
        outcome = _failed(failure, timeout_seconds) if failure else check.evaluate(value)
    except Exception as error:
        failure, outcome = error, _failed(error, timeout_seconds)
    if failure:
        cause = str(failure) if isinstance(failure, SettingsError) else type(failure).__name__
        log.warning("health_check_failed", check=check.name, error=outcome.error, cause=cause)
    try:
        return replace(outcome, details={**check.details(), **outcome.details})
    except Exception as error:
        log.warning("health_details_missing", check=check.name, cause=type(error).__name__)
        return outcome


def _failed(failure: BaseException, timeout_seconds: float) -> Outcome:
    """Describe a failure. The text of an unexpected exception is never shown."""
    if isinstance(failure, CheckFailedError):
        return Outcome("error", str(failure))
    if isinstance(failure, TimeoutError):
        return Outcome("timeout", f"no result within {timeout_seconds:g} s")
    if isinstance(failure, SettingsError):
        return Outcome("error", "the settings are rejected")
    return Outcome("error", "the check failed")
