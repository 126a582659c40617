"""Circuit breaker: calls fail fast with 503 while a dependency keeps failing, so that it can recover.

Closed: calls pass. Open, after some failures in a row: calls are rejected. Half open, once the recovery time is over:
one trial call closes the circuit or opens it again (Michael Nygard, Release It!).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import structlog

from .errors import UnavailableError
from .instrumentation import Measurement

State = Literal["closed", "open", "half_open"]

log = structlog.get_logger(__name__)


class CircuitOpenError(UnavailableError):
    """The dependency was not called, because it failed repeatedly. A retry before `Retry-After` fails as well."""


def is_unavailable(error: BaseException) -> bool:
    """Return whether an error means that a dependency is unavailable."""
    return isinstance(error, UnavailableError) and not isinstance(error, CircuitOpenError)


class CircuitBreaker:
    """The circuit of one dependency, safe for threads and for tasks.

    Args:
        name: The name of the dependency in logs and health reports.
        failure_threshold: The number of failures in a row that opens the circuit.
        recovery_seconds: The time from opening to the trial call.
        is_failure: Whether an exception counts as a failure of the dependency.
        cause_of: Returns the name of a failure in logs and health reports, by default its type.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        failure_threshold: int = 5,
        recovery_seconds: float = 30.0,
        is_failure: Callable[[BaseException], bool] = is_unavailable,
        cause_of: Callable[[BaseException], str] = lambda error: type(error).__name__,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.state: State = "closed"
        self.cause = ""  # the cause of the last failure
        self._failure_threshold = failure_threshold
        self._recovery_seconds = recovery_seconds
        self._is_failure = is_failure
        self._cause_of = cause_of
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        # Grows with each change and each trial. The outcome of a call counts only in the generation in which it began.
        self._generation = 0
        self._next_trial = 0.0

    @contextmanager
    def guard(self, is_failure: Callable[[BaseException], bool] | None = None) -> Iterator[None]:
        """Guard one call: `with breaker.guard(): ...`, in asynchronous code too.

        An exception that is not a failure counts neither as a failure nor as a success. A cancellation is never a
        failure, because a busy machine delays health checks. `is_failure` replaces that of the breaker for this call.

        Raises:
            CircuitOpenError: The circuit is open; `Retry-After` holds the time until the next trial.
        """
        generation = self._admit()
        try:
            yield
        except BaseException as error:
            failed = isinstance(error, Exception) and (is_failure or self._is_failure)(error)
            self._record(generation, "failure" if failed else "none", self._cause_of(error) if failed else "")
            raise
        self._record(generation, "success")

    def details(self) -> dict[str, Any]:
        """Return the details for a health check."""
        with self._lock:
            details: dict[str, Any] = {"state": self.state, "failures": self._failures}
            if self.state != "closed":
                details["cause"] = self.cause
                details["next_trial_in_seconds"] = round(max(0.0, self._next_trial - self._clock()), 1)
            return details

    def measure(self) -> Iterator[Measurement]:
        """Return the measurements for `chassis.measurements`."""
        description = "1 for the state that the circuit of a dependency has, 0 for the others."
        for state in get_args(State):
            attributes = {"dependency": self.name, "state": state}
            yield Measurement("circuit_breaker.state", description, float(self.state == state), attributes)

    def _admit(self) -> int:
        with self._lock:
            if self.state != "closed":
                now = self._clock()
                if now < self._next_trial:
                    raise CircuitOpenError(retry_after_seconds=max(1, math.ceil(self._next_trial - now)))
                # If the trial never ends, because its caller hangs, another trial is due after the same time.
                self._next_trial = now + self._recovery_seconds
                self._change("half_open")
            return self._generation

    def _record(self, generation: int, outcome: Literal["success", "failure", "none"], cause: str = "") -> None:
        with self._lock:
            if generation != self._generation:
                return
            if outcome == "success":
                self._failures = 0
                if self.state != "closed":
                    self._change("closed")
            elif outcome == "failure":
                self._failures += 1
                if self.state == "half_open" or self._failures >= self._failure_threshold:
                    self._next_trial = self._clock() + self._recovery_seconds
                    self._change("open", cause)
            elif self.state == "half_open":
                self._next_trial = self._clock()  # the next call is the trial

    def _change(self, state: State, cause: str = "") -> None:
        """Enter a state and start a generation, under the lock. A failed trial is logged only if its cause is new."""
        was, self.state = self.state, state
        self._generation += 1
        is_news = was == "closed" or cause != self.cause
        self.cause = cause or self.cause
        if state == "half_open":
            return
        fields = {"cause": cause} if cause else {}
        write = log.info if state == "closed" else log.warning if is_news else log.debug
        write("circuit_changed", dependency=self.name, state=state, was=was, failures=self._failures, **fields)
