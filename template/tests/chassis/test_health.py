"""Health: the responses of the four endpoints, and the cost of a probe."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from ..package import module
from .conftest import Logs, Start
from .process import until
from .test_errors import assert_is_problem

Check = module("chassis.health.checks").Check
CheckFailedError = module("chassis.health.checks").CheckFailedError
Outcome = module("chassis.health.checks").Outcome

SECRET = "postgres://admin:hunter2@db.internal refused"


def broken() -> None:
    raise RuntimeError(SECRET)


def with_checks(*checks: Any) -> Callable[[Any], None]:
    """Return a feature's `install` that registers checks."""

    def install(chassis: Any) -> None:
        chassis.health.checks.clear()  # the service's features have checks too
        for check in checks:
            chassis.health.add(check)

    return install


class Counted:
    """A probe that counts its calls."""

    def __init__(self, then: Callable[[], Any] = lambda: None) -> None:
        self.times = 0
        self._then = then

    def __call__(self) -> Any:
        self.times += 1
        return self._then()


class Warned(Check):
    """A check that always warns."""

    def evaluate(self, value: Any) -> Any:
        return Outcome("warning", "getting low", {"left": 3})


# -- the endpoints -----------------------------------------------------------------------------------------------------


def test_live_while_a_critical_check_fails_is_200(start: Start) -> None:
    """A failed database must never restart a pod."""
    client = start(install=with_checks(Check("database", broken, critical=True)))
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 503


@pytest.mark.parametrize("path", ["/health/live", "/health/started"])
def test_live_and_started_run_no_check(start: Start, path: str) -> None:
    counted = Counted()
    client = start(install=with_checks(Check("database", counted, critical=True)))
    assert client.get(path).status_code == 200
    assert counted.times == 0


def test_started_and_ready_before_the_start_are_503(start: Start) -> None:
    """The process is alive before it has started."""
    client = start(started=False, install=with_checks())
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/started").status_code == 503
    assert client.get("/health/ready").status_code == 503


@pytest.mark.parametrize(
    ("checks", "status", "ready", "report"),
    [
        ([Check("one", lambda: None, critical=True), Check("two", lambda: None)], "healthy", 200, 200),
        ([Check("one", lambda: None, critical=True), Check("two", broken)], "degraded", 200, 200),
        ([Warned("one", lambda: None, critical=True)], "degraded", 200, 200),
        ([Check("one", broken, critical=True), Check("two", lambda: None)], "unhealthy", 503, 503),
        ([], "healthy", 200, 200),
    ],
    ids=["all pass", "non-critical fails", "warning holds", "critical fails", "no checks"],
)
def test_report_adds_up_to_three_states(start: Start, checks: list[Any], status: str, ready: int, report: int) -> None:
    """Healthy and degraded return 200, unhealthy returns 503. Only a failed critical check is unhealthy."""
    client = start(install=with_checks(*checks))
    response = client.get("/health")
    assert (response.json()["status"], response.status_code) == (status, report)
    assert client.get("/health/ready").status_code == ready


def test_ready_while_draining_is_503(start: Start) -> None:
    """Readiness changes immediately, whatever is cached. The service stays alive and started."""
    chassis: list[Any] = []
    client = start(install=chassis.append, health_check_cache_seconds=60)
    assert client.get("/health/ready").status_code == 200
    chassis[0].lifecycle.drain()
    assert client.get("/health/ready").status_code == 503
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/started").status_code == 200


def test_ready_runs_critical_checks_only(start: Start) -> None:
    """A third-party service that hangs must not delay readiness."""
    critical, other = Counted(), Counted()
    client = start(install=with_checks(Check("database", critical, critical=True), Check("payments", other)))
    assert client.get("/health/ready").status_code == 200
    assert (critical.times, other.times) == (1, 0)


def test_report_has_version_environment_and_times(start: Start) -> None:
    """Times are in RFC 3339 format and in UTC."""
    body = start(install=with_checks()).get("/health").json()
    assert list(body) == ["status", "timestamp", "version", "environment", "started_at", "uptime_seconds", "checks"]
    assert body["version"] == "demo@v1.2.3"
    assert body["environment"] == "test"
    assert isinstance(body["uptime_seconds"], float)
    for name in ("timestamp", "started_at"):
        assert body[name].endswith("Z")
        age = datetime.now(UTC) - datetime.fromisoformat(body[name])
        assert 0 <= age.total_seconds() < 60


def test_report_of_a_check_has_six_members(start: Start) -> None:
    client = start(install=with_checks(Check("pool", lambda: {"in_use": 3}, critical=True)))
    found = client.get("/health").json()["checks"]["pool"]
    assert {key: found[key] for key in ("status", "critical", "error", "details")} == {
        "status": "ok",
        "critical": True,
        "error": None,
        "details": {"in_use": 3},
    }
    assert found["latency_ms"] == round(found["latency_ms"], 2)
    assert found["last_success"].endswith("Z")
    assert len(found) == 6


@pytest.mark.parametrize(
    "details",
    [
        {"wei": 2**70},
        {"name": "\ud800"},
        {(1, 2): "pair"},
        {"made": {1}},
        {"wei": 10**5000},
        {"note": "x" * 10**6},
        {"rows": list(range(10**5))},
    ],
    ids=["number", "text", "key", "set", "huge number", "long text", "long list"],
)
def test_details_that_json_does_not_know_are_sent_all_the_same(start: Start, details: dict[Any, Any]) -> None:
    response = start(install=with_checks(Check("pool", lambda: details))).get("/health")
    assert response.status_code == 200
    assert response.json()["checks"]["pool"]["status"] == "ok"
    assert len(response.content) < 500_000


def test_details_that_contain_a_secret_are_redacted(start: Start) -> None:
    response = start(install=with_checks(Check("pool", lambda: {"api_key": "hunter2"}))).get("/health")
    assert "hunter2" not in response.text


def test_details_with_a_decimal_are_shown_as_text(start: Start) -> None:
    """Decimals are shown as the database returns them, not as Python's `Decimal(...)`."""
    client = start(install=with_checks(Check("stock", lambda: {"price": Decimal("1.50")})))
    assert client.get("/health").json()["checks"]["stock"]["details"] == {"price": "1.50"}


def test_check_whose_details_fail_is_evaluated_all_the_same(start: Start, logs: Logs) -> None:
    """The log shows that the details are missing."""
    client = start(install=with_checks(Check("pool", lambda: None, details=broken)))
    assert client.get("/health").json()["checks"]["pool"]["status"] == "ok"
    assert [line["check"] for line in logs("health_details_missing")] == ["pool"]


def test_report_that_crashes_is_a_problem(start: Start) -> None:
    """As with every probe, the failure is not sent to the error reporters."""
    reported: list[object] = []

    def install(chassis: Any) -> None:
        chassis.health.checks[:] = [SimpleNamespace(name="not a check")]
        chassis.error_reporters.append(lambda *report: reported.append(report))

    client = start(install=install)
    response = client.get("/health")
    assert_is_problem(response, 500, "INTERNAL")
    assert reported == []  # health is kept out of error tracking
    assert client.get("/health/live").status_code == 200


def test_failed_check_shows_a_safe_phrase(start: Start) -> None:
    """The text of a CheckFailedError is shown. The driver's text, with host and user, never is."""

    def probe() -> None:
        raise CheckFailedError("no leader elected")

    client = start(install=with_checks(Check("database", broken), Check("queue", probe)))
    response = client.get("/health")
    checks = response.json()["checks"]
    assert checks["database"]["status"] == checks["queue"]["status"] == "error"
    assert checks["queue"]["error"] == "no leader elected"
    assert checks["database"]["error"]
    assert not any(word in response.text for word in ("admin", "hunter2", "db.internal", "RuntimeError", "Traceback"))


def test_last_success_is_null_before_the_first_one_and_survives_failures(start: Start) -> None:
    works = {"now": False}

    def probe() -> None:
        if not works["now"]:
            raise RuntimeError

    client = start(install=with_checks(Check("database", probe)), health_check_cache_seconds=0)

    def last_success() -> Any:
        return client.get("/health").json()["checks"]["database"]["last_success"]

    assert last_success() is None
    works["now"] = True
    succeeded = last_success()
    works["now"] = False
    assert succeeded is not None
    assert last_success() == succeeded


def test_ready_follows_a_dependency_that_fails_and_returns(start: Start) -> None:
    """The service stays alive and needs no restart."""
    unavailable = threading.Event()

    def probe() -> None:
        if unavailable.is_set():
            raise ConnectionError(SECRET)

    client = start(install=with_checks(Check("database", probe, critical=True)), health_check_cache_seconds=0)
    assert client.get("/health/ready").status_code == 200
    unavailable.set()
    assert client.get("/health/ready").status_code == 503
    assert client.get("/health/live").status_code == 200
    unavailable.clear()
    assert client.get("/health/ready").status_code == 200


# -- the cost of probes ------------------------------------------------------------------------------------------------


def test_checks_run_concurrently(start: Start) -> None:
    """Three checks that wait for one another all pass."""
    barrier = threading.Barrier(3, timeout=20)
    client = start(install=with_checks(*(Check(name, barrier.wait) for name in ("a", "b", "c"))))
    assert client.get("/health").json()["status"] == "healthy"


def test_check_that_hangs_times_out_and_is_not_started_again(start: Start) -> None:
    """It delays no other check, and threads do not pile up."""
    release = threading.Event()
    hangs = Counted(release.wait)
    client = start(
        # The other check has a minute, because it may begin late on a busy machine.
        install=with_checks(Check("hangs", hangs), Check("works", lambda: None, timeout_fraction=1200)),
        health_check_timeout_seconds=0.05,
        health_check_cache_seconds=0,
    )
    try:
        for _ in range(3):
            checks = client.get("/health").json()["checks"]
            assert checks["hangs"]["status"] == "timeout"
            assert "0.05 s" in checks["hangs"]["error"]
            assert checks["works"]["status"] == "ok"
        until(lambda: hangs.times)
        assert hangs.times == 1
    finally:
        release.set()


@pytest.mark.parametrize("waits_in", ["a thread", "a task"])
def test_ready_while_a_critical_check_hangs_does_not_wait_for_its_timeout(
    start: Start, logs: Logs, waits_in: str
) -> None:
    """Readiness waits a quarter of HEALTH_CHECK_TIMEOUT_SECONDS: Kubernetes gives up after one second."""
    release = threading.Event()

    async def probe_on_the_loop() -> None:
        await asyncio.to_thread(release.wait, 60)

    probe = release.wait if waits_in == "a thread" else probe_on_the_loop
    # The check itself has two minutes.
    client = start(
        install=with_checks(Check("database", probe, critical=True, timeout_fraction=300)),
        health_check_timeout_seconds=0.4,
    )
    try:
        assert client.get("/health/ready").status_code == 503
        assert logs("health_check_failed") == []
        assert client.get("/health/live").status_code == client.get("/health/started").status_code == 200
    finally:
        release.set()


def test_ready_while_a_critical_check_runs_again_has_its_previous_result(start: Start) -> None:
    """A check that takes longer than readiness waits does not make the service unready."""
    release = threading.Event()
    release.set()
    client = start(
        install=with_checks(Check("database", lambda: release.wait(60), critical=True)),
        health_check_timeout_seconds=60 * 60,
        health_check_cache_seconds=0,
    )
    assert client.get("/health").status_code == 200
    release.clear()
    monitor = module("chassis.health.monitor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor, "_READY_FRACTION", 0.00001)
        assert client.get("/health/ready").status_code == 200
    release.set()


def test_ready_while_many_other_checks_hang_is_200(start: Start) -> None:
    """Non-critical checks take neither threads nor time from critical ones, in whatever way they wait."""
    release = threading.Event()
    hanging = Counted(lambda: release.wait(60))

    async def hangs_on_the_loop() -> None:
        hanging.times += 1
        await asyncio.to_thread(release.wait, 60)

    checks = [Check(f"upstream-{number}", hanging if number % 2 else hangs_on_the_loop) for number in range(60)]
    client = start(install=with_checks(*checks, Check("database", lambda: None, critical=True)))
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(client.get, "/health")
        until(lambda: hanging.times == 60)
        try:
            for path in ("/health/ready", "/health/live", "/health/started"):
                assert client.get(path).status_code == 200
            assert not report.done()
        finally:
            release.set()
        assert report.result().status_code == 200


def test_check_that_ignores_its_cancellation_times_out(start: Start) -> None:
    release = threading.Event()

    async def probe() -> None:
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    client = start(install=with_checks(Check("stubborn", probe)), health_check_timeout_seconds=0.05)
    try:
        assert client.get("/health").json()["checks"]["stubborn"]["status"] == "timeout"
    finally:
        release.set()


def test_plain_probe_that_returns_an_awaitable_is_awaited(start: Start) -> None:
    """`Check("queue", lambda: client.ping())` fails if the ping fails."""

    async def ping() -> None:
        raise CheckFailedError("no leader elected")

    checks = start(install=with_checks(Check("queue", lambda: ping()))).get("/health").json()["checks"]
    assert checks["queue"]["error"] == "no leader elected"


@pytest.mark.parametrize("failure", [SystemExit, StopIteration])
def test_probe_that_raises_any_exception_has_failed(start: Start, failure: type[BaseException]) -> None:
    def probe() -> None:
        raise failure

    checks = start(install=with_checks(Check("queue", probe)), health_check_timeout_seconds=20).get("/health").json()
    assert checks["checks"]["queue"]["status"] == "error"


def test_check_without_a_free_thread_fails_until_there_is_one(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers limit the number of threads. The other checks and the response are not affected."""
    client = start(install=with_checks(Check("queue", lambda: None)), health_check_cache_seconds=0)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(module("chassis.health.monitor").Thread, "start", refuse)
        response = client.get("/health")
    assert (response.status_code, response.json()["checks"]["queue"]["status"]) == (200, "error")
    assert client.get("/health").json()["checks"]["queue"]["status"] == "ok"


def test_check_over_its_timeout_fails(start: Start) -> None:
    """A check fails at its timeout, even if it would pass later."""
    release = threading.Event()
    client = start(
        install=with_checks(Check("slow", lambda: release.wait(10), critical=True)), health_check_timeout_seconds=0.05
    )
    response = client.get("/health")
    release.set()
    assert (response.status_code, response.json()["checks"]["slow"]["status"]) == (503, "timeout")


def test_check_with_a_timeout_fraction_times_out_earlier(start: Start) -> None:
    release = threading.Event()
    client = start(
        install=with_checks(Check("hangs", lambda: release.wait(20), timeout_fraction=0.005)),
        health_check_timeout_seconds=10,
    )
    checks = client.get("/health").json()["checks"]
    release.set()
    assert (checks["hangs"]["status"], checks["hangs"]["error"]) == ("timeout", "no result within 0.05 s")


def test_results_are_cached_for_health_check_cache_seconds(start: Start) -> None:
    """The first probe after that runs the checks again."""
    cached, renewed = Counted(), Counted()
    client = start(install=with_checks(Check("database", cached)), health_check_cache_seconds=60)
    for path in ("/health", "/health/ready", "/health"):
        client.get(path)
    assert cached.times == 1
    client = start(install=with_checks(Check("database", renewed)), health_check_cache_seconds=0.02)
    client.get("/health")
    time.sleep(0.03)
    client.get("/health")
    assert renewed.times == 2


@pytest.mark.parametrize("waits_in", ["a thread", "a task"])
def test_thousand_probes_run_a_check_once(start: Start, waits_in: str) -> None:
    counted = Counted()

    def probe() -> None:
        counted()
        time.sleep(0.1)

    async def probe_on_the_loop() -> None:
        counted()
        await asyncio.sleep(0.1)

    check = Check("database", probe if waits_in == "a thread" else probe_on_the_loop, critical=True)
    client = start(install=with_checks(check), health_check_cache_seconds=60)
    with ThreadPoolExecutor(32) as pool:
        responses = list(pool.map(client.get, ["/health/ready"] * 1000))
    assert {response.status_code for response in responses} == {200}
    assert counted.times == 1


# -- HTTP --------------------------------------------------------------------------------------------------------------

PATHS = ["/health", "/health/live", "/health/started", "/health/ready"]


@pytest.mark.parametrize("path", PATHS)
def test_health_response_must_not_be_stored(start: Start, path: str) -> None:
    """A stale report would be misleading."""
    response = start().get(path)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", PATHS)
def test_health_supports_head(start: Start, path: str) -> None:
    response = start().head(path)
    assert response.status_code == 200
    assert response.content == b""


def test_health_with_another_method_is_405(start: Start) -> None:
    response = start().post("/health")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"


def test_health_has_no_access_log_entry(start: Start, logs: Logs) -> None:
    """Probes arrive every second and would fill the log."""
    client = start()
    for path in PATHS:
        client.get(path)
    assert logs("request_finished") == []


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
def test_unhealthy_report_is_not_a_failed_request(start: Start, logs: Logs, path: str) -> None:
    """The report is not sent to the error reporters, and the log has no traceback."""
    reported: list[Any] = []

    def install(chassis: Any) -> None:
        with_checks(Check("database", broken, critical=True))(chassis)
        chassis.error_reporters.append(lambda *report: reported.append(report))

    assert start(install=install).get(path).status_code == 503
    assert reported == []
    lines = logs()
    assert not [line for line in lines if line["event"] == "request_failed" or "exception" in line]
    assert [line["event"] for line in lines if line["level"] in ("warning", "error")] == ["health_check_failed"]


def test_health_is_served_for_any_host(start: Start) -> None:
    """Load balancers probe by IP address, which ALLOWED_HOSTS does not list."""
    assert start().get("/health/ready", headers={"host": "10.1.2.3:8000"}).status_code == 200


def test_failed_check_is_logged_without_its_text(start: Start, logs: Logs) -> None:
    """The driver's text may hold a password, so the entry has only the check and the type of the exception."""
    start(install=with_checks(Check("database", broken))).get("/health")
    (line,) = logs("health_check_failed")
    assert (line["check"], line["level"], line["cause"]) == ("database", "warning", "RuntimeError")
    assert "hunter2" not in str(logs())


def test_second_check_of_a_name_is_rejected(start: Start) -> None:
    """One of the two would hide the other in the report."""
    name = str(uuid4())
    with pytest.raises(ValueError, match="is already registered"):
        start(install=with_checks(Check(name, broken), Check(name, broken)))
