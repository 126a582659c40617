"""Runs the checks concurrently on the event loop. Results are cached, and one run serves all waiting probes."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Thread
from typing import Any

import structlog

from ..formats import utc_now
from .checks import Check, CheckFailedError, Outcome, Result, Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of a probe: its value or its failure, and its latency in milliseconds."""

    latency_ms: float
    value: Any = None
    failure: BaseException | None = None


class HealthMonitor:
    """The results of the checks, each cached for its own time."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_seconds = settings.health_check_timeout_seconds
        self._cache_seconds = settings.health_check_cache_seconds
        self._clock = clock
        self._cached: dict[str, tuple[Result, float]] = {}
        self._flights: dict[str, asyncio.Task[Result]] = {}
        self._threads: dict[str, Future[_Run]] = {}
        self._last_success: dict[str, str] = {}

    async def results(self, checks: Iterable[Check]) -> list[Result]:
        """Return the result of each check; checks without a cached result run concurrently."""
        pending = [self._cached_result(check) or self._flight(check) for check in checks]
        # A probe that gives up must not cancel the run that others wait for.
        return [result if isinstance(result, Result) else await asyncio.shield(result) for result in pending]

    def _cached_result(self, check: Check) -> Result | None:
        result, fresh_until = self._cached.get(check.name, (None, 0.0))
        return result if self._clock() < fresh_until else None

    def _flight(self, check: Check) -> asyncio.Task[Result]:
        flight = self._flights.get(check.name)
        if flight is None or flight.done():
            flight = self._flights[check.name] = asyncio.create_task(self._run(check))
        return flight

    async def _run(self, check: Check) -> Result:
        timeout_seconds = self._timeout_seconds * check.timeout_fraction
        try:
            async with asyncio.timeout(timeout_seconds):
                run = await self._probe(check)
        except TimeoutError:
            run = _Run(timeout_seconds * 1000, failure=TimeoutError())
        result = self._result(check, run, timeout_seconds)
        cache_seconds = self._cache_seconds if check.cache_seconds is None else check.cache_seconds
        self._cached[check.name] = (result, self._clock() + cache_seconds)
        return result

    async def _probe(self, check: Check) -> _Run:
        if not inspect.iscoroutinefunction(check.probe):
            return await asyncio.shield(asyncio.wrap_future(self._probe_in_thread(check)))
        began = time.perf_counter()
        try:
            value, failure = await check.probe(), None
        except Exception as error:
            value, failure = None, error
        return _Run((time.perf_counter() - began) * 1000, value, failure)

    def _probe_in_thread(self, check: Check) -> Future[_Run]:
        """Start a probe in a thread. While a probe hangs it is not started again, so that threads do not pile up."""
        running = self._threads.get(check.name)
        if running is not None and not running.done():
            return running
        self._threads[check.name] = future = Future[_Run]()
        # A daemon thread: a hanging check must not keep the process from ending.
        Thread(target=_probe_into, args=(check, future), name=f"health-{check.name}", daemon=True).start()
        return future

    def _result(self, check: Check, run: _Run, timeout_seconds: float) -> Result:
        outcome = _outcome(check, run, timeout_seconds)
        outcome = replace(outcome, details={**_details(check), **outcome.details})
        if outcome.status in ("ok", "warning"):
            self._last_success[check.name] = utc_now()
        elif run.failure is not None:
            log.warning("health_check_failed", check=check.name, error=outcome.error, cause=type(run.failure).__name__)
        return Result(check, outcome, run.latency_ms, self._last_success.get(check.name))


def _probe_into(check: Check, future: Future[_Run]) -> None:
    began = time.perf_counter()
    try:
        value, failure = check.probe(), None
    except Exception as error:
        value, failure = None, error
    future.set_result(_Run((time.perf_counter() - began) * 1000, value, failure))


def _outcome(check: Check, run: _Run, timeout_seconds: float) -> Outcome:
    """Evaluate a run. The text of an unexpected exception is never shown."""
    failure = run.failure
    if failure is None:
        try:
            return check.evaluate(run.value)
        except Exception as error:
            failure = error
    if isinstance(failure, CheckFailedError):
        return Outcome("error", str(failure))
    if isinstance(failure, TimeoutError):
        return Outcome("timeout", f"no result within {timeout_seconds:g} s")
    return Outcome("error", "the check failed")


def _details(check: Check) -> Mapping[str, Any]:
    try:
        return check.details()
    except Exception as error:
        log.warning("health_details_missing", check=check.name, cause=type(error).__name__)
        return {}
