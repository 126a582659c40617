"""The circuit breaker: closed, open, half open, for threads and for tasks. No test waits."""

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
CircuitOpenError = module("chassis.resilience.failures").CircuitOpenError
CircuitBreaker = module("chassis.resilience.circuit_breaker").CircuitBreaker
circuit_breaker = module("chassis.resilience.circuit_breaker").circuit_breaker

THRESHOLD = 3
RECOVERY_SECONDS = 30


class Clock:
    """Time that passes when a test says so."""

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
    """Let one call fail: as an outage does, unless another error is given."""
    error = error or errors.UnavailableError()
    with suppress(type(error)), breaker.guard():
        raise error


def open_circuit(breaker: Any) -> None:
    for _ in range(THRESHOLD):
        fail(breaker)
    assert breaker.state == "open"


def half_open(breaker: Any, clock: Clock) -> None:
    """Open it, and let the time of its recovery pass."""
    open_circuit(breaker)
    clock.now += RECOVERY_SECONDS


def test_it_opens_after_failures_in_a_row(breaker: Any) -> None:
    """A success in between shows that the dependency is there."""
    for _ in range(5):
        fail(breaker)
        fail(breaker)
        succeed(breaker)
    assert breaker.state == "closed"
    open_circuit(breaker)


def test_an_open_circuit_refuses_at_once(breaker: Any, clock: Clock) -> None:
    """With the seconds that are left as `Retry-After`."""
    open_circuit(breaker)
    clock.now += 10.5
    with pytest.raises(errors.UnavailableError) as refused, breaker.guard():
        pytest.fail("the dependency was called")
    assert refused.value.headers() == {"retry-after": "20"}


def test_what_is_no_outage_does_not_open_it(breaker: Any) -> None:
    """Bad input, a fault of ours, an end from outside."""
    for error in (errors.NotFoundError(), ValueError(), errors.DeadlineExceededError(), asyncio.CancelledError()):
        for _ in range(THRESHOLD):
            fail(breaker, error)
    assert breaker.state == "closed"


def test_a_trial_that_succeeds_closes_it(breaker: Any, clock: Clock) -> None:
    """And the failures are counted from nothing again."""
    half_open(breaker, clock)
    with breaker.guard():
        assert breaker.state == "half_open"
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "closed"


def test_a_trial_that_fails_opens_it_again(breaker: Any, clock: Clock) -> None:
    """For as long as the first time."""
    half_open(breaker, clock)
    fail(breaker)
    assert breaker.state == "open"
    clock.now += RECOVERY_SECONDS - 0.1
    with pytest.raises(CircuitOpenError):
        succeed(breaker)
    clock.now += 0.1
    succeed(breaker)
    assert breaker.state == "closed"


def test_there_is_one_trial_at_a_time(breaker: Any, clock: Clock) -> None:
    """Whoever comes meanwhile is refused."""
    half_open(breaker, clock)
    with breaker.guard():
        with pytest.raises(CircuitOpenError):
            succeed(breaker)
        assert breaker.state == "half_open"
    succeed(breaker)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), errors.DeadlineExceededError(), ValueError()])
def test_a_trial_without_an_outcome_is_given_to_the_next(breaker: Any, clock: Clock, error: BaseException) -> None:
    """A caller that went away says nothing of the dependency."""
    half_open(breaker, clock)
    fail(breaker, error)
    assert breaker.state == "half_open"
    succeed(breaker)
    assert breaker.state == "closed"


def test_a_trial_that_is_never_heard_of_is_not_the_last(breaker: Any, clock: Clock) -> None:
    """Another one is let through when it has had its time."""
    half_open(breaker, clock)
    lost = breaker.guard()
    lost.__enter__()
    clock.now += RECOVERY_SECONDS
    succeed(breaker)
    assert breaker.state == "closed"
    with suppress(errors.UnavailableError):
        lost.__exit__(errors.UnavailableError, errors.UnavailableError(), None)
    assert breaker.details()["failures"] == 0


def test_what_began_before_a_change_no_longer_counts(breaker: Any, clock: Clock) -> None:
    """A call that hung through the outage must not open the circuit again, nor close it."""
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


def test_of_many_threads_one_makes_the_trial(breaker: Any, clock: Clock) -> None:
    """The others are refused while it lasts."""
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
            return "refused"

    with ThreadPoolExecutor(16) as pool:
        outcomes = [future.result(PATIENCE_SECONDS) for future in [pool.submit(call) for _ in range(16)]]
    assert sorted(outcomes) == ["called"] + ["refused"] * 15
    assert breaker.state == "closed"


def test_of_many_tasks_one_makes_the_trial(breaker: Any, clock: Clock) -> None:
    """The block is held open while the task awaits, and no other task is held up."""
    half_open(breaker, clock)

    async def call(release: asyncio.Event) -> str:
        try:
            with breaker.guard():
                await asyncio.wait_for(release.wait(), PATIENCE_SECONDS)
                return "called"
        except CircuitOpenError:
            return "refused"

    async def main() -> list[str]:
        release = asyncio.Event()
        tasks = [asyncio.create_task(call(release)) for _ in range(16)]
        await asyncio.sleep(0)
        release.set()
        return await asyncio.gather(*tasks)

    assert sorted(asyncio.run(main())) == ["called"] + ["refused"] * 15


def test_every_failure_of_many_threads_is_counted(clock: Clock) -> None:
    """None is lost between reading and writing the count."""
    breaker = CircuitBreaker("prices", failure_threshold=8001, clock=clock)
    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(lambda: [fail(breaker) for _ in range(1000)]) for _ in range(8)]:
            future.result(PATIENCE_SECONDS)
    assert breaker.details() == {"state": "closed", "failures": 8000}


# -- of a service ------------------------------------------------------------------------------------------------------


def test_there_is_one_for_each_dependency(start: Start) -> None:
    """Made on first use, with the service's settings; an outage of one says nothing of another."""
    services: list[Any] = []
    start(install=services.append, circuit_failure_threshold=1)
    prices, mail = (circuit_breaker(services[0], name) for name in ("prices", "mail"))
    assert circuit_breaker(services[0], "prices") is prices
    fail(prices)
    assert (prices.state, mail.state) == ("open", "closed")


def test_health_shows_the_state(start: Start) -> None:
    """Degraded while it is not closed, and never unhealthy."""
    services: list[Any] = []
    client = start(install=services.append, circuit_failure_threshold=1, health_check_interval_seconds=0)
    breaker = circuit_breaker(services[0], "prices")
    report = client.get("/health").json()
    assert report["status"] == "healthy"
    assert report["checks"]["circuit_prices"]["details"] == {"state": "closed", "failures": 0}
    fail(breaker)
    answer = client.get("/health")
    found = answer.json()["checks"]["circuit_prices"]
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert (found["status"], found["critical"], found["error"]) == ("warning", False, "the circuit is open")
    assert found["details"]["state"] == "open"
    assert 0 < found["details"]["next_trial_in_seconds"] <= 30
    assert client.get("/health/ready").status_code == 200


def test_opening_and_closing_are_one_line_each(start: Start, logs: Logs, breaker: Any, clock: Clock) -> None:
    """With the kind of error that opened it; calls that are refused and trials that fail write none."""
    start()
    half_open(breaker, clock)
    fail(breaker)
    for _ in range(5):
        with suppress(CircuitOpenError):
            succeed(breaker)
    clock.now += RECOVERY_SECONDS
    succeed(breaker)
    lines = logs("circuit_changed")
    assert [(line["was"], line["state"]) for line in lines] == [("closed", "open"), ("half_open", "closed")]
    assert {line["dependency"] for line in lines} == {"prices"}
    assert (lines[0]["level"], lines[0]["failures"], lines[0]["cause"]) == ("warning", 3, "UnavailableError")
    assert lines[-1]["level"] == "info"


def test_a_call_may_have_its_own_opinion_of_what_a_failure_is(breaker: Any) -> None:
    """It counts for this call only."""
    for _ in range(THRESHOLD - 1):
        with suppress(KeyError), breaker.guard(lambda _error: True):
            raise KeyError
    fail(breaker, KeyError())
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"
