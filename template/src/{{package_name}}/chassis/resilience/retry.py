"""Tries again what failed for the moment, on stamina: ever later, at random, and never past a deadline."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, ParamSpec, TypeVar, cast

import httpx
import stamina
import structlog

from ..service import Service
from ..startup import is_away
from .failures import CircuitOpenError, asked_to_wait, is_transient

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Retry:
    """How often, how late and after which errors something is tried again; times are in seconds.

    Each pause is a random part (full jitter) of 1, 2, 4 ... seconds, so that those who failed together do not come back
    together. `Retry-After` is heeded. A try that could not begin before the deadline is not waited for. Use it for
    what may run twice, and only for that: `@Retry()` before a function, synchronous or not, or `Retry().call(...)`.
    """

    attempts: int = 3
    wait_initial_seconds: float = 1.0
    wait_max_seconds: float = 10.0
    deadline_seconds: float = 20.0
    transient: Callable[[Exception], bool] = is_transient
    operation: str | None = None  # its name in the logs, by default that of the function
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[float, float], float] = random.uniform

    @classmethod
    def of(cls, service: Service, **changes: Any) -> Retry:
        """Return the retry of the service's settings, for whatever its features call transient: a database, a cache."""
        settings = service.settings
        values = {
            "attempts": settings.retry_attempts,
            "wait_initial_seconds": settings.retry_wait_initial_seconds,
            "wait_max_seconds": settings.retry_wait_max_seconds,
            "deadline_seconds": settings.retry_deadline_seconds,
            "transient": _transient_for(service),
        }
        return cls(**values | changes)

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function until it returns; what it raised last is raised."""
        for attempt in self._tries(function):
            with attempt:
                return function(*args, **kwargs)
        raise AssertionError("stamina ends with a result or an error")

    async def call_async(self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await a function until it returns; what it raised last is raised."""
        async for attempt in self._tries(function):
            with attempt:
                return await function(*args, **kwargs)
        raise AssertionError("stamina ends with a result or an error")

    def __call__(self, function: F) -> F:
        """Decorate a function, synchronous or asynchronous."""

        @wraps(function)
        def synchronous(*args: Any, **kwargs: Any) -> Any:
            return self.call(function, *args, **kwargs)

        @wraps(function)
        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            return await self.call_async(function, *args, **kwargs)

        return cast(F, asynchronous if iscoroutinefunction(function) else synchronous)

    def _tries(self, function: Callable[..., Any]) -> Any:
        name = str(self.operation or getattr(function, "__qualname__", type(function).__name__))
        # The deadline is the hook's, which knows the next pause; stamina's own would be noticed after it.
        return stamina.retry_context(on=Backoff(self), attempts=self.attempts, timeout=None).with_name(name, (), {})


class Backoff:
    """The pauses of one call: stamina asks it after each failure whether to try again, and after how many seconds."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._ends = retry.clock() + retry.deadline_seconds
        self._failures = 0

    def __call__(self, error: Exception) -> bool | float:
        retry = self._retry
        if not retry.transient(error):
            return False
        longest = min(retry.wait_max_seconds, retry.wait_initial_seconds * 2.0 ** min(self._failures, 63))
        self._failures += 1
        seconds = max(retry.jitter(0.0, longest), asked_to_wait(error) or 0.0)
        return seconds if retry.clock() + seconds < self._ends else False


def log_retry(details: stamina.instrumentation.RetryDetails) -> None:
    """Log a new try; a hook for stamina, whose own would log the arguments too."""
    log.warning(
        "retry_scheduled",
        operation=details.name,
        failures=details.retry_num,
        wait_seconds=round(details.wait_for, 3),
        cause=type(details.caused_by).__name__,
    )


def _transient_for(service: Service) -> Callable[[Exception], bool]:
    """Return what tells a failure that may pass, in the words of the service's own features."""
    away = is_away(service)

    def transient(error: Exception) -> bool:
        if isinstance(error, httpx.HTTPError | CircuitOpenError):
            return is_transient(error)
        return away(error)

    return transient
