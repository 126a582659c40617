"""The ready-made health checks: an upstream over HTTP, freshness, gaps, thresholds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ..package import module
from ..servers import free_port
from .process import PATIENCE_SECONDS

checks = module("chassis.health.checks")
CheckFailedError = module("chassis.health.registry").CheckFailedError

NOW = datetime(2030, 5, 17, 12, 0, tzinfo=UTC)


def now() -> datetime:
    return NOW


# -- an upstream -------------------------------------------------------------------------------------------------------


@pytest.fixture
def upstream() -> Iterator[str]:
    """Another service: `/204` answers 204, `/hang` nothing."""
    release = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/hang":
                release.wait(20)
            else:
                self.send_response(int(self.path[1:]))
                self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    release.set()
    server.shutdown()
    thread.join()
    server.server_close()


def watched(url: str, **options: Any) -> Any:
    """Return a check that a busy machine does not make fail."""
    return checks.Upstream("payments", url, timeout_seconds=PATIENCE_SECONDS, **options)


def test_an_upstream_passes_on_the_expected_status(upstream: str) -> None:
    """200 unless another status is expected."""
    assert watched(f"{upstream}/200").measure() == {"status_code": 200}
    assert watched(f"{upstream}/204", expected_status=204).measure() == {"status_code": 204}


def test_an_upstream_fails_on_another_status(upstream: str) -> None:
    """The phrase names both, and no host."""
    with pytest.raises(CheckFailedError, match=r"^answered 503, expected 200$"):
        watched(f"{upstream}/503").measure()


def test_an_upstream_that_hangs_fails_within_its_timeout(upstream: str) -> None:
    """Its own time-out is shorter than that of the checks."""

    def seconds() -> float:
        began = time.monotonic()
        with pytest.raises(CheckFailedError, match=r"^no answer within 0\.05 s$"):
            checks.Upstream("payments", f"{upstream}/hang", timeout_seconds=0.05).measure()
        return time.monotonic() - began

    assert min(seconds() for _ in range(3)) < 3  # a busy machine does not hold up all of them


def test_an_upstream_that_is_away_fails_with_a_safe_phrase() -> None:
    """Neither its host nor its port is shown."""
    with pytest.raises(CheckFailedError, match=r"^cannot be reached$"):
        watched(f"http://127.0.0.1:{free_port()}/").measure()


def test_an_upstream_is_not_critical_unless_declared_so() -> None:
    """Another team's outage must not take this service out of the balancer."""
    assert not checks.Upstream("payments", "http://localhost/").critical
    assert checks.Upstream("payments", "http://localhost/", critical=True).critical


# -- freshness and gaps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("newest", "status"),
    [(NOW - timedelta(minutes=59), "ok"), (NOW - timedelta(minutes=61), "error"), (None, "error")],
    ids=["young", "old", "none at all"],
)
def test_freshness_fails_when_the_newest_record_is_too_old(newest: datetime | None, status: str) -> None:
    """The details say how old it is."""
    check = checks.Freshness("prices", lambda: newest, max_age=timedelta(hours=1), now=now)
    outcome = check.judge(check.measure())
    assert outcome.status == status
    assert "newest" in outcome.details


def test_gaps_warn_and_list_the_days_without_a_record() -> None:
    """Today is not over, so it does not count."""
    present = [date(2030, 5, 16), date(2030, 5, 14)]
    check = checks.Gaps("imports", lambda: present, days=4, now=now)
    outcome = check.judge(check.measure())
    assert outcome.status == "warning"
    assert outcome.details == {"gaps": ["2030-05-13", "2030-05-15"]}


def test_gaps_pass_when_every_day_has_a_record() -> None:
    """Nothing is listed then."""
    check = checks.Gaps("imports", lambda: [date(2030, 5, 15), date(2030, 5, 16)], days=2, now=now)
    assert check.judge(check.measure()).status == "ok"


@pytest.mark.parametrize(
    ("present", "gaps"),
    [([], []), ([15], ["2030-05-16"]), ([1], ["2030-05-14", "2030-05-15", "2030-05-16"]), ([14, 15, 16], [])],
)
def test_gaps_begin_with_the_first_record_on_request(present: list[int], gaps: list[str]) -> None:
    """What is new has missed nothing; what began before the days that count may have missed them all."""
    check = checks.Gaps("imports", lambda: [date(2030, 5, day) for day in present], days=3, since_first=True, now=now)
    assert check.judge(check.measure()).details == {"gaps": gaps}


# -- thresholds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("balance", "status"), [(100, "ok"), (99.5, "warning"), (50, "warning"), (49.9, "error"), (0, "error")]
)
def test_a_threshold_warns_below_one_value_and_fails_below_another(balance: float, status: str) -> None:
    """The values themselves still pass."""
    check = checks.Threshold("balance", lambda: balance, warn_below=100, fail_below=50)
    outcome = check.judge(check.measure())
    assert outcome.status == status
    assert outcome.details["value"] == balance
