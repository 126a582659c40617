"""Health: what the four endpoints answer, and what asking them costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from ..package import module
from .conftest import Logs, Start
from .process import until
from .test_errors import assert_is_problem

Check = module("chassis.health.registry").Check
CheckFailedError = module("chassis.health.registry").CheckFailedError
Outcome = module("chassis.health.registry").Outcome

SECRET = "postgres://admin:hunter2@db.internal refused"


def broken() -> None:
    raise RuntimeError(SECRET)


def with_checks(*checks: Any) -> Callable[[Any], None]:
    """Return a feature's `install` that registers checks."""

    def install(service: Any) -> None:
        service.health.checks.clear()  # those of the service's own features are not this test's business
        for check in checks:
            service.health.add(check)

    return install


class Counted:
    """A measurement that counts how often it was made."""

    def __init__(self, then: Callable[[], Any] = lambda: None) -> None:
        self.times = 0
        self._then = then

    def __call__(self) -> Any:
        self.times += 1
        return self._then()


class Warned(Check):
    """A check whose warning always holds."""

    def judge(self, measured: Any) -> Any:
        return Outcome("warning", "getting low", {"left": 3})


# -- the endpoints -----------------------------------------------------------------------------------------------------


def test_live_is_200_while_a_critical_dependency_is_dead(start: Start) -> None:
    """A dead database must never restart a pod."""
    client = start(install=with_checks(Check("database", broken, critical=True)))
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 503


@pytest.mark.parametrize("path", ["/health/live", "/health/started"])
def test_live_and_started_never_touch_dependencies(start: Start, path: str) -> None:
    """Neither runs a check."""
    counted = Counted()
    client = start(install=with_checks(Check("database", counted, critical=True)))
    assert client.get(path).status_code == 200
    assert counted.times == 0


def test_started_and_ready_are_503_until_start_up_has_finished(start: Start) -> None:
    """A process that has not opened its dependencies is alive, and neither started nor ready."""
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
def test_the_three_states(start: Start, checks: list[Any], status: str, ready: int, report: int) -> None:
    """Healthy and degraded answer 200, unhealthy 503; a failure is critical only when its check was declared so."""
    client = start(install=with_checks(*checks))
    answer = client.get("/health")
    assert (answer.json()["status"], answer.status_code) == (status, report)
    assert client.get("/health/ready").status_code == ready


def test_ready_is_503_as_soon_as_the_service_drains(start: Start) -> None:
    """Draining makes it not ready at once, whatever was measured before; it stays alive and started."""
    services: list[Any] = []
    client = start(install=services.append, health_check_interval_seconds=60)
    assert client.get("/health/ready").status_code == 200
    services[0].lifecycle.drain()
    assert client.get("/health/ready").status_code == 503
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/started").status_code == 200


def test_the_report_says_who_where_and_since_when(start: Start) -> None:
    """The body of /health names the version, the environment and the start, all times in RFC 3339 and UTC."""
    body = start(install=with_checks()).get("/health").json()
    assert list(body) == ["status", "timestamp", "version", "environment", "started_at", "uptime_seconds", "checks"]
    assert body["version"] == "demo@v1.2.3"
    assert body["environment"] == "test"
    assert isinstance(body["uptime_seconds"], float)
    for name in ("timestamp", "started_at"):
        assert body[name].endswith("Z")
        age = datetime.now(UTC) - datetime.fromisoformat(body[name])
        assert 0 <= age.total_seconds() < 60


def test_a_check_reports_what_it_found(start: Start) -> None:
    """Each check has a status, a latency, its last success and what it wants to show."""
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
    [{"wei": 2**70}, {"name": "\ud800"}, {(1, 2): "pair"}, {"made": {1}}],
    ids=["number", "text", "key", "set"],
)
def test_whatever_a_check_shows_can_be_sent(start: Start, details: dict[Any, Any]) -> None:
    """A value that JSON does not know does not take the report with it."""
    answer = start(install=with_checks(Check("pool", lambda: details))).get("/health")
    assert answer.status_code == 200
    assert answer.json()["checks"]["pool"]["status"] == "ok"


def test_a_number_is_shown_as_it_reads(start: Start) -> None:
    """A database's decimal, for one; not as Python would write it in a program."""
    client = start(install=with_checks(Check("stock", lambda: {"price": Decimal("1.50")})))
    assert client.get("/health").json()["checks"]["stock"]["details"] == {"price": "1.50"}


def test_a_check_that_cannot_show_anything_is_judged_all_the_same(start: Start, logs: Logs) -> None:
    """The log says that something is missing."""
    client = start(install=with_checks(Check("pool", lambda: None, show=broken)))
    assert client.get("/health").json()["checks"]["pool"]["status"] == "ok"
    assert [line["check"] for line in logs("health_details_missing")] == ["pool"]


def test_a_fault_of_the_report_itself_is_answered_like_any_other(start: Start) -> None:
    """With a problem body, an id and the security headers."""
    reported: list[object] = []

    def install(service: Any) -> None:
        # In the place of the others: one that is still asking when the service ends would leave its connection open.
        service.health.checks[:] = ["no check"]
        service.error_reporters.append(lambda *told: reported.append(told))

    client = start(install=install)
    answer = client.get("/health")
    assert_is_problem(answer, 500, "INTERNAL")
    assert reported == []  # health is kept out of error tracking
    assert client.get("/health/live").status_code == 200


def test_a_failed_check_says_a_safe_phrase(start: Start) -> None:
    """What the driver said, with host and user in it, is never shown; a phrase made for showing is."""

    def measured() -> None:
        raise CheckFailedError("no leader elected")

    client = start(install=with_checks(Check("database", broken), Check("queue", measured)))
    answer = client.get("/health")
    checks = answer.json()["checks"]
    assert checks["database"]["status"] == checks["queue"]["status"] == "error"
    assert checks["queue"]["error"] == "no leader elected"
    assert checks["database"]["error"]
    assert not any(word in answer.text for word in ("admin", "hunter2", "db.internal", "RuntimeError", "Traceback"))


def test_last_success_is_null_until_there_is_one_and_outlives_a_failure(start: Start) -> None:
    """It says since when a dependency has been away."""
    works = {"now": False}

    def measured() -> None:
        if not works["now"]:
            raise RuntimeError

    client = start(install=with_checks(Check("database", measured)), health_check_interval_seconds=0)

    def last_success() -> Any:
        return client.get("/health").json()["checks"]["database"]["last_success"]

    assert last_success() is None
    works["now"] = True
    succeeded = last_success()
    works["now"] = False
    assert succeeded is not None
    assert last_success() == succeeded


def test_a_dependency_that_goes_away_and_comes_back_needs_no_restart(start: Start) -> None:
    """Not ready while it is gone, alive all the time, ready again as soon as it has returned."""
    away = threading.Event()

    def measured() -> None:
        if away.is_set():
            raise ConnectionError(SECRET)

    client = start(install=with_checks(Check("database", measured, critical=True)), health_check_interval_seconds=0)
    assert client.get("/health/ready").status_code == 200
    away.set()
    assert client.get("/health/ready").status_code == 503
    assert client.get("/health/live").status_code == 200
    away.clear()
    assert client.get("/health/ready").status_code == 200


# -- what probing costs ------------------------------------------------------------------------------------------------


def test_checks_run_side_by_side(start: Start) -> None:
    """Three checks that wait for each other all pass: together they cost the slowest, not the sum."""
    barrier = threading.Barrier(3, timeout=20)
    client = start(install=with_checks(*(Check(name, barrier.wait) for name in ("a", "b", "c"))))
    assert client.get("/health").json()["status"] == "healthy"


def test_a_check_that_hangs_times_out_and_is_not_started_again(start: Start) -> None:
    """It costs HEALTH_CHECK_TIMEOUT_SECONDS, delays no other check, and its threads do not pile up."""
    release = threading.Event()
    hangs = Counted(release.wait)
    client = start(
        # What works has a minute: it may begin late on a busy machine.
        install=with_checks(Check("hangs", hangs), Check("works", lambda: None, timeout_share=1200)),
        health_check_timeout_seconds=0.05,
        health_check_interval_seconds=0,
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


def test_a_check_has_health_check_timeout_seconds(start: Start) -> None:
    """One that takes longer has timed out, even if it would have passed."""
    release = threading.Event()
    client = start(
        install=with_checks(Check("slow", lambda: release.wait(10), critical=True)), health_check_timeout_seconds=0.05
    )
    answer = client.get("/health")
    release.set()
    assert (answer.status_code, answer.json()["checks"]["slow"]["status"]) == (503, "timeout")


def test_a_check_may_have_a_share_of_the_time_only(start: Start) -> None:
    """What answers in milliseconds, or not at all, is told of before the others."""
    release = threading.Event()
    client = start(
        install=with_checks(Check("hangs", lambda: release.wait(20), timeout_share=0.005)),
        health_check_timeout_seconds=10,
    )
    checks = client.get("/health").json()["checks"]
    release.set()
    assert (checks["hangs"]["status"], checks["hangs"]["error"]) == ("timeout", "no result within 0.05 s")


def test_results_are_kept_for_the_interval(start: Start) -> None:
    """Probes within HEALTH_CHECK_INTERVAL_SECONDS cost nothing; the next one after it measures again."""
    kept, renewed = Counted(), Counted()
    client = start(install=with_checks(Check("database", kept)), health_check_interval_seconds=60)
    for path in ("/health", "/health/ready", "/health"):
        client.get(path)
    assert kept.times == 1
    client = start(install=with_checks(Check("database", renewed)), health_check_interval_seconds=0.02)
    client.get("/health")
    time.sleep(0.03)
    client.get("/health")
    assert renewed.times == 2


def test_a_thousand_probes_cost_one_query(start: Start) -> None:
    """However many probes wait at once, a dependency is asked once for all of them."""
    counted = Counted(lambda: time.sleep(0.1))
    client = start(install=with_checks(Check("database", counted)), health_check_interval_seconds=60)
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(client.get, ["/health/ready"] * 1000))
    assert {answer.status_code for answer in answers} == {200}
    assert counted.times == 1


# -- manners -----------------------------------------------------------------------------------------------------------

PATHS = ["/health", "/health/live", "/health/started", "/health/ready"]


@pytest.mark.parametrize("path", PATHS)
def test_answers_are_not_stored(start: Start, path: str) -> None:
    """A cache between a probe and the service would lie."""
    answer = start().get(path)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", PATHS)
def test_head_works(start: Start, path: str) -> None:
    """HEAD answers as GET does, without the body."""
    answer = start().head(path)
    assert answer.status_code == 200
    assert answer.content == b""


def test_other_methods_are_refused(start: Start) -> None:
    """POST gets 405, and is told what is allowed."""
    answer = start().post("/health")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"


def test_health_is_not_in_the_access_log(start: Start, logs: Logs) -> None:
    """Probes come every second; a line for each would bury the others."""
    client = start()
    for path in PATHS:
        client.get(path)
    assert logs("request_finished") == []


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
def test_an_unhealthy_service_is_no_failed_request(start: Start, logs: Logs, path: str) -> None:
    """The 503 is the answer that was asked for: no error reporter hears of it, and the log has no traceback."""
    reported: list[Any] = []

    def install(service: Any) -> None:
        with_checks(Check("database", broken, critical=True))(service)
        service.error_reporters.append(lambda *report: reported.append(report))

    assert start(install=install).get(path).status_code == 503
    assert reported == []
    lines = logs()
    assert not [line for line in lines if line["event"] == "request_failed" or "exception" in line]
    assert [line["event"] for line in lines if line["level"] in ("warning", "error")] == ["health_check_failed"]


def test_health_answers_under_any_host_name(start: Start) -> None:
    """A balancer probes by address, which is in nobody's ALLOWED_HOSTS."""
    assert start().get("/health/ready", headers={"host": "10.1.2.3:8000"}).status_code == 200


def test_a_failed_check_is_logged_without_its_text(start: Start, logs: Logs) -> None:
    """The log names the check and the kind of failure; the driver's text may hold a password."""
    start(install=with_checks(Check("database", broken))).get("/health")
    (line,) = logs("health_check_failed")
    assert (line["check"], line["level"], line["cause"]) == ("database", "warning", "RuntimeError")
    assert "hunter2" not in str(logs())


def test_two_checks_of_one_name_are_refused(start: Start) -> None:
    """One would hide the other in the report."""
    name = str(uuid4())
    with pytest.raises(ValueError, match="registered already"):
        start(install=with_checks(Check(name, broken), Check(name, broken)))
