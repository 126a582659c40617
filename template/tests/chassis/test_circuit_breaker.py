"""The circuit breaker: closed, open and half open, for threads and for tasks. No test waits."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from ..package import module
from .conftest import Logs, Start
from .process import PATIENCE_SECONDS

errors = module("chassis.errors")
CircuitOpenError = module("chassis.circuit_breaker").CircuitOpenError
CircuitBreaker = module("chassis.circuit_breaker").CircuitBreaker

THRESHOLD = 3
RECOVERY_SECONDS = 30


class Clock:
    """A clock that a test moves forward."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Any:
    return CircuitBreaker("prices", failure_threshold=THRESHOLD, recovery_seconds=RECOVERY_SECONDS, clock=clock)


def succeed(breaker: Any) -> None:
    with breaker.guard():
        pass


def fail(breaker: Any, error: BaseException | None = None) -> None:
    """Let one call fail, by default because the dependency is unavailable."""
    error = error or errors.UnavailableError()
    with suppress(type(error)), breaker.guard():
        raise error


def open_circuit(breaker: Any) -> None:
    for _ in range(THRESHOLD):
        fail(breaker)
    assert breaker.state == "open"


def test_exactly_one_state_is_measured_as_1(breaker: Any) -> None:
    def states() -> dict[str, float]:
        return {one.attributes["state"]: one.value for one in breaker.measure()}

    assert states() == {"closed": 1, "open": 0, "half_open": 0}
    open_circuit(breaker)
    assert states() == {"closed": 0, "open": 1, "half_open": 0}


def half_open(breaker: Any, clock: Clock) -> None:
    """Open the circuit, and let the recovery time pass."""
    open_circuit(breaker)
    clock.now += RECOVERY_SECONDS


def test_circuit_opens_after_failures_in_a_row(breaker: Any) -> None:
    """A success between failures resets the count."""
    for _ in range(5):
        fail(breaker)
        fail(breaker)
        succeed(breaker)
    assert breaker.state == "closed"
    open_circuit(breaker)


def test_open_circuit_rejects_calls_with_retry_after(breaker: Any, clock: Clock) -> None:
    """`Retry-After` is the time until the next trial."""
    open_circuit(breaker)
    clock.now += 10.5
    with pytest.raises(errors.UnavailableError) as raised, breaker.guard():
        pytest.fail("the dependency was called")
    assert raised.value.headers() == {"retry-after": "20"}


def test_errors_that_are_not_failures_do_not_open_the_circuit(breaker: Any) -> None:
    """Bad input, a bug of this service and a cancellation are not failures of the dependency."""
    for error in (errors.NotFoundError(), ValueError(), errors.DeadlineExceededError(), asyncio.CancelledError()):
        for _ in range(THRESHOLD):
            fail(breaker, error)
    assert breaker.state == "closed"


def test_successful_trial_closes_the_circuit_and_resets_the_count(breaker: Any, clock: Clock) -> None:
    half_open(breaker, clock)
    with breaker.guard():
        assert breaker.state == "half_open"
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "closed"


def test_failed_trial_opens_the_circuit_for_the_same_time(breaker: Any, clock: Clock) -> None:
    half_open(breaker, clock)
    fail(breaker)
    assert breaker.state == "open"
    clock.now += RECOVERY_SECONDS - 0.1
    with pytest.raises(CircuitOpenError):
        succeed(breaker)
    clock.now += 0.1
    succeed(breaker)
    assert breaker.state == "closed"


def test_calls_during_a_trial_are_rejected(breaker: Any, clock: Clock) -> None:
    half_open(breaker, clock)
    with breaker.guard():
        with pytest.raises(CircuitOpenError):
            succeed(breaker)
        assert breaker.state == "half_open"
    succeed(breaker)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), errors.DeadlineExceededError(), ValueError()])
def test_trial_without_an_outcome_lets_the_next_call_try(breaker: Any, clock: Clock, error: BaseException) -> None:
    """A cancelled call says nothing about the dependency."""
    half_open(breaker, clock)
    fail(breaker, error)
    assert breaker.state == "half_open"
    succeed(breaker)
    assert breaker.state == "closed"


def test_trial_that_never_ends_is_followed_by_another(breaker: Any, clock: Clock) -> None:
    """Another trial is due after the recovery time. The outcome of the first one no longer counts."""
    half_open(breaker, clock)
    lost = breaker.guard()
    lost.__enter__()
    clock.now += RECOVERY_SECONDS
    succeed(breaker)
    assert breaker.state == "closed"
    with suppress(errors.UnavailableError):
        lost.__exit__(errors.UnavailableError, errors.UnavailableError(), None)
    assert breaker.details()["failures"] == 0


def test_call_from_before_a_change_of_state_does_not_count(breaker: Any, clock: Clock) -> None:
    """A call that hung through the outage neither opens nor closes the circuit."""
    slow_failure, slow_success = breaker.guard(), breaker.guard()
    slow_failure.__enter__()
    slow_success.__enter__()
    open_circuit(breaker)
    slow_success.__exit__(None, None, None)
    assert breaker.state == "open"
    clock.now += RECOVERY_SECONDS
    with breaker.guard():
        with suppress(errors.UnavailableError):
            slow_failure.__exit__(errors.UnavailableError, errors.UnavailableError(), None)
        assert breaker.state == "half_open"
    assert breaker.state == "closed"


def test_one_of_many_threads_makes_the_trial(breaker: Any, clock: Clock) -> None:
    """All other calls are rejected meanwhile."""
    half_open(breaker, clock)
    together, done = threading.Barrier(16), threading.Barrier(16)

    def call() -> str:
        together.wait(PATIENCE_SECONDS)
        try:
            with breaker.guard():
                done.wait(PATIENCE_SECONDS)
                return "called"
        except CircuitOpenError:
            done.wait(PATIENCE_SECONDS)
            return "rejected"

    with ThreadPoolExecutor(16) as pool:
        outcomes = [future.result(PATIENCE_SECONDS) for future in [pool.submit(call) for _ in range(16)]]
    assert sorted(outcomes) == ["called"] + ["rejected"] * 15
    assert breaker.state == "closed"


def test_one_of_many_tasks_makes_the_trial(breaker: Any, clock: Clock) -> None:
    """The guarded block may await; other tasks run meanwhile."""
    half_open(breaker, clock)

    async def call(release: asyncio.Event) -> str:
        try:
            with breaker.guard():
                await asyncio.wait_for(release.wait(), PATIENCE_SECONDS)
                return "called"
        except CircuitOpenError:
            return "rejected"

    async def main() -> list[str]:
        release = asyncio.Event()
        tasks = [asyncio.create_task(call(release)) for _ in range(16)]
        await asyncio.sleep(0)
        release.set()
        return await asyncio.gather(*tasks)

    assert sorted(asyncio.run(main())) == ["called"] + ["rejected"] * 15


def test_failures_of_many_threads_are_all_counted(clock: Clock) -> None:
    breaker = CircuitBreaker("prices", failure_threshold=8001, clock=clock)

    def fail_often() -> None:
        for _ in range(1000):
            fail(breaker)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(fail_often) for _ in range(8)]:
            future.result(PATIENCE_SECONDS)
    assert breaker.details() == {"state": "closed", "failures": 8000}


def test_opening_and_closing_are_logged_once_each(start: Start, logs: Logs, breaker: Any, clock: Clock) -> None:
    """The entry has the type of the error that opened the circuit. Rejected calls and failed trials are not logged."""
    start()
    half_open(breaker, clock)
    fail(breaker)
    for _ in range(5):
        with suppress(CircuitOpenError):
            succeed(breaker)
    clock.now += RECOVERY_SECONDS
    succeed(breaker)
    entries = logs("circuit_changed")
    assert [(entry["was"], entry["state"]) for entry in entries] == [("closed", "open"), ("half_open", "closed")]
    assert {entry["dependency"] for entry in entries} == {"prices"}
    assert (entries[0]["level"], entries[0]["failures"], entries[0]["cause"]) == ("warning", 3, "UnavailableError")
    assert entries[-1]["level"] == "info"


def test_call_with_its_own_is_failure_uses_it_for_this_call_only(breaker: Any) -> None:
    for _ in range(THRESHOLD - 1):
        with suppress(KeyError), breaker.guard(lambda _error: True):
            raise KeyError
    fail(breaker, KeyError())
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"
