"""The ready-made health checks: freshness, missing days, thresholds."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from ..package import module

checks = module("chassis.health.checks")

NOW = datetime(2030, 5, 17, 12, 0, tzinfo=UTC)


def now() -> datetime:
    return NOW


# -- freshness and days ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("newest", "status"),
    [(NOW - timedelta(minutes=59), "ok"), (NOW - timedelta(minutes=61), "error"), (None, "error")],
    ids=["young", "old", "none"],
)
def test_freshness_over_max_age_or_without_records_fails(newest: datetime | None, status: str) -> None:
    """The details contain the time of the newest record."""
    check = checks.Freshness("prices", lambda: newest, max_age=timedelta(hours=1), now=now)
    outcome = check.evaluate(check.probe())
    assert outcome.status == status
    assert "newest" in outcome.details


def test_missing_days_warn_and_are_listed() -> None:
    """Today does not count, because it is not over."""
    present = [date(2030, 5, 16), date(2030, 5, 14)]
    check = checks.MissingDays("imports", lambda: present, days=4, now=now)
    outcome = check.evaluate(check.probe())
    assert outcome.status == "warning"
    assert outcome.details == {"missing_days": ["2030-05-13", "2030-05-15"]}


def test_missing_days_with_a_record_on_each_day_pass() -> None:
    check = checks.MissingDays("imports", lambda: [date(2030, 5, 15), date(2030, 5, 16)], days=2, now=now)
    assert check.evaluate(check.probe()).status == "ok"


@pytest.mark.parametrize(
    ("present", "missing"),
    [([], []), ([15], ["2030-05-16"]), ([1], ["2030-05-14", "2030-05-15", "2030-05-16"]), ([14, 15, 16], [])],
)
def test_missing_days_since_the_first_record_begin_with_it(present: list[int], missing: list[str]) -> None:
    """Days before the first record do not count as missing."""
    check = checks.MissingDays(
        "imports", lambda: [date(2030, 5, day) for day in present], days=3, since_first=True, now=now
    )
    assert check.evaluate(check.probe()).details == {"missing_days": missing}


# -- thresholds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("balance", "status"), [(100, "ok"), (99.5, "warning"), (50, "warning"), (49.9, "error"), (0, "error")]
)
def test_threshold_warns_below_one_value_and_fails_below_another(balance: float, status: str) -> None:
    """A number that equals a threshold is not below it."""
    check = checks.Threshold("balance", lambda: balance, warn_below=100, fail_below=50)
    outcome = check.evaluate(check.probe())
    assert outcome.status == status
    assert outcome.details["value"] == balance
