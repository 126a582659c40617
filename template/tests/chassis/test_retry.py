"""`Retry`: the errors that are retried, the number of tries, the pauses, and the deadline. No test waits."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
import stamina

from ..package import module
from .conftest import Logs, Start, measured, settings_for_tests

errors = module("chassis.errors")
retry = module("chassis.http_client.retry")
CircuitOpenError = module("chassis.circuit_breaker").CircuitOpenError
Retry = retry.Retry


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    """Use the test mode of stamina: the same number of tries without pauses."""
    with stamina.set_testing(True, attempts=1000, cap=True):
        yield


class Failing:
    """A function that raises each of some exceptions once, then returns."""

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


def unavailable() -> Exception:
    return errors.UnavailableError()  # type: ignore[no-any-return]


def answered(status: int, **headers: str) -> Exception:
    request = httpx.Request("GET", "http://prices.example.com/")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(status, headers=named, request=request))


class Draws:
    """Replaces the random part of pauses by their maximum, and records the bounds of each draw."""

    def __init__(self) -> None:
        self.bounds: list[tuple[float, float]] = []

    def __call__(self, low: float, high: float) -> float:
        self.bounds.append((low, high))
        return high


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Draws:
    draws = Draws()
    monkeypatch.setattr("random.uniform", draws)
    return draws


Pauses = Callable[..., list[float]]


@pytest.fixture
def pauses(draws: Draws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pauses]:
    """Return the longest pauses of a call that raises these exceptions; sleeping only moves the clock."""
    now, slept = [1000.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    def pauses(raised: list[Exception], took_seconds: float = 0, **options: Any) -> list[float]:
        failing = Failing(*raised)

        def work() -> None:
            now[0] += took_seconds
            failing()

        slept.clear()
        with suppress(Exception):
            Retry(**{"attempts": 10_000} | options).call(work)
        return list(slept)

    with stamina.set_testing(False), monkeypatch.context() as patch:
        patch.setattr("time.sleep", sleep)
        patch.setattr("time.monotonic", lambda: now[0])
        yield pauses


# -- how often ---------------------------------------------------------------------------------------------------------


def test_retry_gives_up_after_three_tries() -> None:
    """The last exception is raised unchanged."""
    last = unavailable()
    failing = Failing(unavailable(), unavailable(), last)
    with pytest.raises(errors.UnavailableError) as raised:
        Retry().call(failing)
    assert failing.calls == 3
    assert raised.value is last


def test_retry_ends_with_the_first_success() -> None:
    """Each try gets the arguments of the call."""
    failing = Failing(unavailable())
    assert Retry().call(failing, result="result") == "result"
    assert failing.calls == 2


def test_retry_of_a_coroutine_function_awaits_it_again() -> None:
    failing, hopeless = Failing(unavailable()), Failing(*[unavailable() for _ in range(5)])
    assert asyncio.run(Retry().call_async(failing.later, "result")) == "result"
    with pytest.raises(errors.UnavailableError):
        asyncio.run(Retry(attempts=4).call_async(hopeless.later))
    assert (failing.calls, hopeless.calls) == (2, 4)


def test_retry_decorates_functions_and_coroutine_functions() -> None:
    """Both keep their names, and a coroutine function stays a coroutine function."""
    failing = Failing(unavailable(), unavailable())

    @Retry()  # type: ignore[untyped-decorator]
    def fetch(result: str) -> str:
        return failing(result)

    @Retry()  # type: ignore[untyped-decorator]
    async def fetch_later(result: str) -> str:
        return failing(result)

    assert fetch("result") == "result"
    assert fetch.__name__ == "fetch"
    assert inspect.iscoroutinefunction(fetch_later)
    assert asyncio.run(fetch_later("result")) == "result"


# -- after which errors ------------------------------------------------------------------------------------------------


REQUEST = httpx.Request("GET", "http://prices.example.com/")


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (unavailable(), True),
        (httpx.ConnectError("refused"), True),
        (httpx.ConnectTimeout("late"), True),
        (httpx.ReadTimeout("hangs"), True),
        (httpx.RemoteProtocolError("cut"), True),
        (answered(502), True),
        (answered(503), True),
        (answered(504), True),
        (answered(500), False),
        (answered(404), False),
        (httpx.UnsupportedProtocol("ftp"), False),
        (httpx.LocalProtocolError("a header with a line break"), False),
        (errors.NotFoundError(), False),
        (CircuitOpenError(), False),
        (ValueError("a bug of this service"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_only_transient_errors_are_retried(error: Exception, again: bool) -> None:
    """A bug of this service or a deliberate error response would only repeat itself."""
    failing = Failing(error)
    if again:
        assert Retry().call(failing) == "done"
    else:
        with pytest.raises(type(error)):
            Retry().call(failing)
    assert failing.calls == 1 + again


def test_retry_with_its_own_transient_uses_it() -> None:
    """This supports libraries with other exceptions."""
    failing = Failing(KeyError("busy"))
    assert Retry(transient=lambda error: isinstance(error, KeyError)).call(failing) == "done"


def test_cancelled_task_is_not_retried() -> None:
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


def test_pauses_double_up_to_a_limit(pauses: Pauses) -> None:
    """The upper bounds of the pauses are 1, 2, 4 ... seconds."""
    assert pauses([unavailable()] * 6, wait_max_seconds=10, deadline_seconds=100) == [1, 2, 4, 8, 10, 10]
    assert pauses([unavailable()] * 3, wait_initial_seconds=0.25) == [0.25, 0.5, 1]


def test_pause_is_a_random_part_of_its_maximum(pauses: Pauses, draws: Draws) -> None:
    """With full jitter, callers that failed at the same time do not retry at the same time."""
    pauses([unavailable()] * 3)
    assert draws.bounds == [(0, 1), (0, 2), (0, 4)]


def test_pause_after_thousands_of_failures_does_not_overflow(pauses: Pauses) -> None:
    assert pauses([unavailable()] * 2000, deadline_seconds=float("inf"))[-1] == 10


@pytest.mark.parametrize(
    ("header", "expected"),
    [("7", 7), ("0", 1), ("soon", 1), ("-3", 1), ("", 1), ("٣", 1)],
    ids=["longer", "shorter", "words", "negative", "empty", "not ASCII"],
)
def test_pause_is_at_least_retry_after(pauses: Pauses, header: str, expected: float) -> None:
    """A malformed `Retry-After` is ignored."""
    assert module("chassis.http_client").retry_after_seconds(unavailable()) is None
    response = httpx.Response(503, headers={b"retry-after": header.encode()}, request=REQUEST)
    assert pauses([httpx.HTTPStatusError("", request=REQUEST, response=response)]) == [expected]


def test_retry_after_as_a_date_is_understood(pauses: Pauses) -> None:
    """`Retry-After` may be a date (RFC 9110, 10.2.3). A date in the past has no effect."""
    soon = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    (pause,) = pauses([answered(503, retry_after=soon)], deadline_seconds=7200)
    assert 3500 < pause <= 3600
    assert pauses([answered(503, retry_after="Fri, 20 Nov 2020 12:00:00 GMT")]) == [1]


def test_retry_beyond_the_deadline_is_dropped(pauses: Pauses) -> None:
    """No retry is made once the time is used up, or if `Retry-After` exceeds the time that is left."""
    assert pauses([unavailable()] * 5, deadline_seconds=5) == [1, 2]
    assert pauses([unavailable()] * 5, took_seconds=6, deadline_seconds=10) == [1]
    assert pauses([answered(503, retry_after="60")], deadline_seconds=20) == []


# -- of a service ------------------------------------------------------------------------------------------------------


def test_retry_of_a_service_has_its_settings(start: Start) -> None:
    """Explicit arguments take precedence over the settings."""
    chassis: list[Any] = []
    start(install=chassis.append, retry_attempts=5, retry_wait_initial_seconds=0.5, retry_deadline_seconds=7)
    found = Retry.of(chassis[0], wait_max_seconds=3)
    assert (found.attempts, found.wait_initial_seconds, found.deadline_seconds) == (5, 0.5, 7)
    assert found.wait_max_seconds == 3


def test_defaults_of_retry_and_its_settings_are_the_same() -> None:
    settings = settings_for_tests()
    assert Retry().attempts == settings.retry_attempts == 3
    assert Retry().wait_initial_seconds == settings.retry_wait_initial_seconds == 1
    assert Retry().wait_max_seconds == settings.retry_wait_max_seconds
    assert Retry().deadline_seconds == settings.retry_deadline_seconds


def test_errors_that_a_feature_calls_unavailable_are_transient(start: Start) -> None:
    """The error translator of a database or cache, which maps errors to responses, also decides about retries."""

    class DriverError(Exception):
        pass

    def translate(error: BaseException) -> Any:
        return errors.UnavailableError() if isinstance(error, DriverError) else None

    def install(installed: Any) -> None:
        chassis.append(installed)
        installed.error_translators.append(translate)

    chassis: list[Any] = []
    start(install=install)
    failing = Failing(DriverError("gone"), answered(502), unavailable())
    assert Retry.of(chassis[0], attempts=4).call(failing) == "done"
    for error in (answered(500), ValueError("a bug"), CircuitOpenError()):
        with pytest.raises(type(error)):
            Retry.of(chassis[0]).call(Failing(error))


def test_each_retry_is_logged_without_arguments(start: Start, logs: Logs) -> None:
    """The entry has the operation, the number of failures and the type of the last one. Retries are counted too."""
    chassis: list[Any] = []
    start(install=chassis.append)

    def fetch(token: str) -> str:
        return failing(token)

    failing = Failing(unavailable(), httpx.ReadTimeout("hangs"))
    Retry().call(fetch, "hunter2")
    first, second = logs("retry_scheduled")
    assert first["operation"].endswith("fetch")
    assert (first["level"], first["failures"], first["cause"]) == ("warning", 1, "UnavailableError")
    assert (second["failures"], second["cause"]) == (2, "ReadTimeout")
    assert "wait_seconds" in first
    assert "hunter2" not in str([first, second])
    assert measured(chassis[0])["retries"][(first["operation"],)] == 2


def test_retry_with_an_operation_logs_its_name(start: Start, logs: Logs) -> None:
    start()
    work: Callable[[], str] = Failing(unavailable())
    Retry(operation="import of prices").call(work)
    assert logs("retry_scheduled")[0]["operation"] == "import of prices"
