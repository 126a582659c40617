"""Retries with exponential backoff, full jitter and a deadline, based on stamina."""

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

from ..app import Chassis
from ..circuit_breaker import CircuitOpenError
from ..errors import UnavailableError
from . import Settings, is_transient, retry_after_seconds

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Retry:
    """Retries a function that is safe to run twice: `@Retry()` before it, or `Retry().call(function, ...)`.

    Each pause is a random part of 1, 2, 4 ... seconds (full jitter), so that callers do not retry at the same time. A
    pause is at least as long as `Retry-After`. A retry that could not begin before the deadline is dropped.

    Args:
        attempts: The number of tries, the first included.
        wait_initial_seconds: The longest pause before the first retry; it doubles with each further one.
        wait_max_seconds: The maximum of all pauses.
        deadline_seconds: The time for all tries and pauses together.
        transient: Whether a retry may help after an exception.
        operation: The name in the logs, by default that of the function.
    """

    attempts: int = 3
    wait_initial_seconds: float = 1.0
    wait_max_seconds: float = 10.0
    deadline_seconds: float = 20.0
    transient: Callable[[Exception], bool] = is_transient
    operation: str | None = None

    @classmethod
    def of(cls, chassis: Chassis, **changes: Any) -> Retry:
        """Return a retry with the service's settings, for each error that a feature reports as `UnavailableError`."""
        settings = chassis.settings_as(Settings)

        def transient(error: Exception) -> bool:
            if isinstance(error, httpx.HTTPError | CircuitOpenError):
                return is_transient(error)
            # Do not wait for dependencies once shutdown was requested.
            return not chassis.lifecycle.draining and isinstance(chassis.to_service_error(error), UnavailableError)

        values: dict[str, Any] = {
            "attempts": settings.retry_attempts,
            "wait_initial_seconds": settings.retry_wait_initial_seconds,
            "wait_max_seconds": settings.retry_wait_max_seconds,
            "deadline_seconds": settings.retry_deadline_seconds,
            "transient": transient,
        }
        return cls(**values | changes)

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function until it succeeds, else raise its last exception."""
        for attempt in self._attempts_for(function):
            with attempt:
                return function(*args, **kwargs)
        raise AssertionError("stamina ends with a result or an exception")

    async def call_async(self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await a function until it succeeds, else raise its last exception."""
        async for attempt in self._attempts_for(function):
            with attempt:
                return await function(*args, **kwargs)
        raise AssertionError("stamina ends with a result or an exception")

    def __call__(self, function: F) -> F:
        """Decorate a function or a coroutine function."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.call(function, *args, **kwargs)

        @wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            return await self.call_async(function, *args, **kwargs)

        return cast(F, call_async if iscoroutinefunction(function) else call)

    def _attempts_for(self, function: Callable[..., Any]) -> Any:
        deadline = time.monotonic() + self.deadline_seconds
        longest_seconds = self.wait_initial_seconds

        def backoff(error: Exception) -> bool | float:
            nonlocal longest_seconds
            if not self.transient(error):
                return False
            pause_seconds = random.uniform(0.0, min(longest_seconds, self.wait_max_seconds))
            seconds = max(pause_seconds, retry_after_seconds(error) or 0.0)
            longest_seconds *= 2
            # stamina's own timeout would act only after the pause.
            return seconds if time.monotonic() + seconds < deadline else False

        name = str(self.operation or getattr(function, "__qualname__", type(function).__name__))
        return stamina.retry_context(on=backoff, attempts=self.attempts, timeout=None).with_name(name, (), {})
