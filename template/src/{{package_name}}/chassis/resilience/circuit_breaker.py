"""Leaves a dependency alone that keeps failing: it gets time to recover, and callers get their 503 at once.

Closed: calls pass. Open, after some failures in a row: calls are refused. Half open, after a while: one call is the
trial which closes the circuit or opens it again (Nygard, Release It!; see docs/resilience.md).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import structlog

from ..health.registry import Check, Outcome
from ..service import Service
from .failures import CircuitOpenError, is_transient

State = Literal["closed", "open", "half_open"]

log = structlog.get_logger(__name__)


class CircuitBreaker:
    """The circuit to one dependency, for threads and tasks alike; times are in seconds."""

    def __init__(
        self,
        name: str,
        *,
        failure_threshold: int = 5,
        recovery_seconds: float = 30.0,
        is_failure: Callable[[BaseException], bool] = is_transient,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.state: State = "closed"
        self._failure_threshold = failure_threshold
        self._recovery_seconds = recovery_seconds
        self._is_failure = is_failure
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        # The calls whose outcome counts. Those that began before the last change or trial say nothing of today.
        self._round = 0
        self._next_trial = 0.0

    @contextmanager
    def guard(self, is_failure: Callable[[BaseException], bool] | None = None) -> Iterator[None]:
        """Bracket one call: `with breaker.guard(): ...`, in asynchronous code too.

        A block that ends well is a success, one that raises what `is_failure` calls so a failure; a call may have its
        own opinion of that. Anything else, a cancellation for one, says nothing of the dependency.

        Raises:
            CircuitOpenError: the circuit is open; `Retry-After` says until when.
        """
        began = self._admit()
        try:
            yield
        except BaseException as error:
            if (is_failure or self._is_failure)(error):
                self._failed(began, error)
            else:
                self._undecided(began)
            raise
        self._succeeded(began)

    def details(self) -> dict[str, Any]:
        """Return what the health check shows."""
        with self._lock:
            found: dict[str, Any] = {"state": self.state, "failures": self._failures}
            if self.state != "closed":
                found["next_trial_in_seconds"] = round(max(0.0, self._next_trial - self._clock()), 1)
            return found

    def _admit(self) -> int:
        with self._lock:
            if self.state != "closed":
                now = self._clock()
                if now < self._next_trial:
                    raise CircuitOpenError(retry_after_seconds=max(1, math.ceil(self._next_trial - now)))
                # A trial that is never heard of, its thread having been interrupted, must not be the last.
                self._next_trial = now + self._recovery_seconds
                self._change("half_open")
            return self._round

    def _succeeded(self, began: int) -> None:
        with self._lock:
            if began == self._round:
                self._failures = 0
                if self.state != "closed":
                    self._change("closed")

    def _failed(self, began: int, error: BaseException) -> None:
        with self._lock:
            if began == self._round:
                self._failures += 1
                if self.state == "half_open" or self._failures >= self._failure_threshold:
                    self._next_trial = self._clock() + self._recovery_seconds
                    self._change("open", cause=type(error).__name__)

    def _undecided(self, began: int) -> None:
        """Let the next call be the trial in the place of this one."""
        with self._lock:
            if began == self._round and self.state == "half_open":
                self._next_trial = self._clock()

    def _change(self, state: State, **fields: object) -> None:
        """Begin a new round; the lock is held. A trial that fails is no news, and is written for debugging only."""
        was, self.state = self.state, state
        self._round += 1
        if state != was:
            write = log.warning if was == "closed" else log.info if state == "closed" else log.debug
            write("circuit_changed", dependency=self.name, state=state, was=was, failures=self._failures, **fields)


class CircuitCheck(Check):
    """Degraded while the circuit is not closed; never critical, for the service answers without this dependency."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        super().__init__(f"circuit_{breaker.name}", breaker.details)

    def judge(self, measured: Any) -> Outcome:
        if measured["state"] == "closed":
            return Outcome(details=measured)
        return Outcome("warning", f"the circuit is {measured['state'].replace('_', ' ')}", measured)


class _Breakers(dict[str, CircuitBreaker]):
    """The breakers of one service, by the names of its dependencies."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def circuit_breaker(service: Service, name: str) -> CircuitBreaker:
    """Return the one breaker of a dependency, made and added to the health report on first use."""
    breakers = service.get_or_provide(_Breakers)
    with breakers.lock:
        if name not in breakers:
            breaker = CircuitBreaker(
                name,
                failure_threshold=service.settings.circuit_failure_threshold,
                recovery_seconds=service.settings.circuit_recovery_seconds,
            )
            service.health.add(CircuitCheck(breaker))
            breakers[name] = breaker
        return breakers[name]
