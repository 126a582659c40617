"""`Retry`: what is tried again, how often, how late, and when it is given up. No test waits."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
import stamina

from ..package import module
from .conftest import Logs, Start, settings_for_tests

errors = module("chassis.errors")
failures = module("chassis.resilience.failures")
retry = module("chassis.resilience.retry")
Retry = retry.Retry


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    """stamina's own test mode: as many tries as ever, and nothing between them."""
    with stamina.set_testing(True, attempts=1000, cap=True):
        yield


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Failing:
    """Fails as often as it is told to, then returns."""

    def __init__(self, *raised: Exception) -> None:
        self.calls = 0
        self._raised = list(raised)

    def __call__(self, result: str = "done") -> str:
        self.calls += 1
        if self._raised:
            raise self._raised.pop(0)
        return result

    async def later(self, result: str = "done") -> str:
        return self(result)


def away() -> Exception:
    return errors.UnavailableError()  # type: ignore[no-any-return]


def answered(status: int, **headers: str) -> Exception:
    request = httpx.Request("GET", "http://prices.example.com/")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(status, headers=named, request=request))


def longest(_low: float, high: float) -> float:
    """Stand for the random part of a pause, at its longest."""
    return high


def pauses(raised: list[Exception], **options: Any) -> list[bool | float]:
    """Return what is decided after each failure."""
    backoff = retry.Backoff(Retry(**{"jitter": longest, "clock": Clock()} | options))
    return [backoff(error) for error in raised]


# -- how often ---------------------------------------------------------------------------------------------------------


def test_it_is_tried_three_times() -> None:
    """The first try and two more; the last error is raised as it is."""
    last = away()
    failing = Failing(away(), away(), last)
    with pytest.raises(errors.UnavailableError) as raised:
        Retry().call(failing)
    assert failing.calls == 3
    assert raised.value is last


def test_it_stops_when_it_succeeds() -> None:
    """With the arguments of the call, each time."""
    failing = Failing(away())
    assert Retry().call(failing, result="kept") == "kept"
    assert failing.calls == 2


def test_coroutine_functions_are_awaited_again() -> None:
    """The same counts for asynchronous code."""
    failing, hopeless = Failing(away()), Failing(*[away() for _ in range(5)])
    assert asyncio.run(Retry().call_async(failing.later, "kept")) == "kept"
    with pytest.raises(errors.UnavailableError):
        asyncio.run(Retry(attempts=4).call_async(hopeless.later))
    assert (failing.calls, hopeless.calls) == (2, 4)


def test_it_decorates_functions_of_both_kinds() -> None:
    """A function keeps its name, and a coroutine function its kind."""
    failing = Failing(away(), away())

    @Retry()
    def fetch(result: str) -> str:
        return failing(result)

    @Retry()
    async def fetch_later(result: str) -> str:
        return failing(result)

    assert fetch("kept") == "kept"
    assert fetch.__name__ == "fetch"
    assert inspect.iscoroutinefunction(fetch_later)
    assert asyncio.run(fetch_later("kept")) == "kept"


# -- after which errors ------------------------------------------------------------------------------------------------


REQUEST = httpx.Request("GET", "http://prices.example.com/")


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (away(), True),
        (httpx.ConnectError("refused"), True),
        (httpx.ConnectTimeout("late"), True),
        (httpx.ReadTimeout("silent"), True),
        (httpx.RemoteProtocolError("cut"), True),
        (answered(502), True),
        (answered(503), True),
        (answered(504), True),
        (answered(500), False),
        (answered(404), False),
        (httpx.UnsupportedProtocol("ftp"), False),
        (httpx.LocalProtocolError("a header with a line break"), False),
        (errors.NotFoundError(), False),
        (failures.CircuitOpenError(), False),
        (ValueError("a fault of ours"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_only_what_may_pass_is_tried_again(error: Exception, again: bool) -> None:
    """A fault of ours, and what was answered for good reason, are the same the next time."""
    failing = Failing(error)
    if again:
        assert Retry().call(failing) == "done"
    else:
        with pytest.raises(type(error)):
            Retry().call(failing)
    assert failing.calls == 1 + again


def test_what_is_transient_can_be_told() -> None:
    """For a library with errors of its own."""
    failing = Failing(KeyError("busy"))
    assert Retry(transient=lambda error: isinstance(error, KeyError)).call(failing) == "done"


def test_a_cancelled_task_is_not_tried_again() -> None:
    """Nobody waits for it any more."""
    calls: list[int] = []

    async def cancelled() -> None:
        calls.append(1)
        raise asyncio.CancelledError

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await Retry().call_async(cancelled)

    asyncio.run(main())
    assert len(calls) == 1


# -- how late ----------------------------------------------------------------------------------------------------------


def test_pauses_double_up_to_a_limit() -> None:
    """At their longest 1, 2, 4 ... seconds."""
    assert pauses([away()] * 6, wait_max_seconds=10, deadline_seconds=100) == [1, 2, 4, 8, 10, 10]
    assert pauses([away()] * 3, wait_initial_seconds=0.25) == [0.25, 0.5, 1]


def test_a_pause_is_any_part_of_its_longest() -> None:
    """Full jitter: those who failed at the same moment do not come back at the same moment."""
    asked: list[tuple[float, float]] = []

    def half(low: float, high: float) -> float:
        asked.append((low, high))
        return (low + high) / 2

    assert pauses([away()] * 3, jitter=half) == [0.5, 1, 2]
    assert asked == [(0, 1), (0, 2), (0, 4)]


def test_a_hundred_thousand_failures_are_no_overflow() -> None:
    """Somebody tries forever."""
    assert pauses([away()] * 2000, deadline_seconds=float("inf"))[-1] == 10


@pytest.mark.parametrize(
    ("header", "expected"),
    [("7", 7), ("0", 1), ("soon", 1), ("-3", 1), ("", 1), ("٣", 1)],
    ids=["longer", "shorter", "words", "negative", "empty", "not ASCII"],
)
def test_retry_after_is_heeded(header: str, expected: float) -> None:
    """A pause is at least as long as the dependency asks for."""
    assert failures.asked_to_wait(away()) is None
    response = httpx.Response(503, headers={"retry-after": header.encode()}, request=REQUEST)
    assert pauses([httpx.HTTPStatusError("", request=REQUEST, response=response)]) == [expected]


def test_retry_after_may_be_a_date() -> None:
    """RFC 9110, 10.2.3; one that is past asks for nothing."""
    soon = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    (pause,) = pauses([answered(503, retry_after=soon)], deadline_seconds=7200)
    assert 3500 < pause <= 3600
    assert pauses([answered(503, retry_after="Fri, 20 Nov 2020 12:00:00 GMT")]) == [1]


def test_a_try_past_the_deadline_is_not_waited_for() -> None:
    """Neither when time has passed, nor when the dependency asks for more of it than there is."""
    clock = Clock()
    backoff = retry.Backoff(Retry(jitter=longest, clock=clock, deadline_seconds=10))
    assert backoff(away()) == 1
    clock.now += 9
    assert backoff(away()) is False
    assert pauses([answered(503, retry_after="60")], deadline_seconds=20) == [False]


# -- of a service ------------------------------------------------------------------------------------------------------


def test_a_service_gives_its_settings(start: Start) -> None:
    """And single values can be told apart from them."""
    services: list[Any] = []
    start(install=services.append, retry_attempts=5, retry_wait_initial_seconds=0.5, retry_deadline_seconds=7)
    found = Retry.of(services[0], wait_max_seconds=3)
    assert (found.attempts, found.wait_initial_seconds, found.deadline_seconds) == (5, 0.5, 7)
    assert found.wait_max_seconds == 3


def test_the_defaults_of_settings_and_class_are_the_same() -> None:
    """3 tries at 1, 2, 4 seconds."""
    settings = settings_for_tests()
    assert Retry().attempts == settings.retry_attempts == 3
    assert Retry().wait_initial_seconds == settings.retry_wait_initial_seconds == 1
    assert Retry().wait_max_seconds == settings.retry_wait_max_seconds
    assert Retry().deadline_seconds == settings.retry_deadline_seconds


def test_what_a_feature_calls_unavailable_is_transient(start: Start) -> None:
    """A database or a cache speaks through its translator, as it does for the answer."""

    class DriverError(Exception):
        pass

    def install(service: Any) -> None:
        services.append(service)
        service.translators.append(lambda error: errors.UnavailableError() if isinstance(error, DriverError) else None)

    services: list[Any] = []
    start(install=install)
    failing = Failing(DriverError("gone"), answered(502), away())
    assert Retry.of(services[0], attempts=4).call(failing) == "done"
    for refused in (answered(500), ValueError("ours"), failures.CircuitOpenError()):
        with pytest.raises(type(refused)):
            Retry.of(services[0]).call(Failing(refused))


def test_every_new_try_is_logged(start: Start, logs: Logs) -> None:
    """What was tried, how often it failed and why; never with what arguments."""
    start()

    def fetch(token: str) -> str:
        return failing(token)

    failing = Failing(away(), httpx.ReadTimeout("silent"))
    Retry().call(fetch, "hunter2")
    first, second = logs("retry_scheduled")
    assert first["operation"].endswith("fetch")
    assert (first["level"], first["failures"], first["cause"]) == ("warning", 1, "UnavailableError")
    assert (second["failures"], second["cause"]) == (2, "ReadTimeout")
    assert "wait_seconds" in first
    assert "hunter2" not in str([first, second])


def test_an_operation_can_have_a_name_of_its_own(start: Start, logs: Logs) -> None:
    """For a function whose name says little."""
    start()
    work: Callable[[], str] = Failing(away())
    Retry(operation="import of prices").call(work)
    assert logs("retry_scheduled")[0]["operation"] == "import of prices"
