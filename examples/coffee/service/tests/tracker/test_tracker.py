"""Cups, heart rates, their correlation and their scopes, in the process of the tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from ..package import module, program

correlate = module("tracker.service").correlate
Captured = pytest.CaptureFixture[str]


def create_key(capsys: Captured, *scopes: str) -> str:
    """Create a key with the command of the service, which prints it once."""
    capsys.readouterr()
    assert module("chassis.cli").main(program(), ["api-keys", "create", "phone", "--scopes", ",".join(scopes)]) == 0
    return capsys.readouterr().out.splitlines()[0]


@pytest.fixture
def phone(client: httpx.Client, capsys: Captured) -> httpx.Client:
    """A client with a key that has both scopes."""
    client.headers["X-API-Key"] = create_key(capsys, "tracker:read", "tracker:write")
    return client


def add(client: httpx.Client, days_ago: int, caffeine_mg: int, beats_per_minute: int) -> None:
    """Add a cup and a heart rate at noon of a day."""
    noon = (datetime.now(UTC) - timedelta(days=days_ago)).replace(hour=12).isoformat()
    cup = {"kind": "filter", "caffeine_mg": caffeine_mg, "drunk_at": noon}
    assert client.post("/api/v1/cups", json=cup).status_code == 201
    rate = {"beats_per_minute": beats_per_minute, "measured_at": noon}
    assert client.post("/api/v1/heart-rates", json=rate).status_code == 201


def test_today_lists_the_current_day_only(phone: httpx.Client) -> None:
    add(phone, 1, 300, 90)
    add(phone, 0, 95, 70)
    today = phone.get("/api/v1/today").json()
    assert (today["caffeine_mg"], len(today["cups"]), len(today["heart_rates"])) == (95, 1, 1)


def test_correlation_follows_new_rows(phone: httpx.Client) -> None:
    """It is cached, and deleted from the cache after the commit."""
    assert phone.get("/api/v1/correlation").json() == {"days": 0, "coefficient": None}
    for days_ago, caffeine_mg, beats_per_minute in ((3, 50, 60), (2, 100, 70), (1, 150, 80)):
        add(phone, days_ago, caffeine_mg, beats_per_minute)
    assert phone.get("/api/v1/correlation").json() == {"days": 3, "coefficient": 1.0}
    add(phone, 0, 400, 60)
    assert phone.get("/api/v1/correlation").json()["coefficient"] < 0.1


@pytest.mark.parametrize(
    ("days", "coefficient"),
    [([], None), ([(50, 60.0)], None), ([(50, 60.0), (50, 70.0)], None), ([(50, 80.0), (100, 60.0)], -1.0)],
)
def test_correlation_of_few_or_equal_days_is_null(days: list[tuple[int, float]], coefficient: float | None) -> None:
    assert correlate(days).coefficient == coefficient


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("cups", {"kind": "Drip!", "caffeine_mg": 1}, "kind"),
        ("cups", {"kind": "drip", "caffeine_mg": 1001}, "caffeine_mg"),
        ("cups", {"kind": "drip", "caffeine_mg": 1, "drunk_at": "2026-01-01T00:00:00"}, "drunk_at"),
        ("heart-rates", {"beats_per_minute": 19}, "beats_per_minute"),
    ],
)
def test_row_that_is_not_valid_is_rejected(phone: httpx.Client, path: str, body: dict[str, object], field: str) -> None:
    response = phone.post(f"/api/v1/{path}", json=body)
    assert (response.status_code, [error["field"] for error in response.json()["errors"]]) == (422, [field])


def test_request_needs_a_key_with_the_scope(client: httpx.Client, capsys: Captured) -> None:
    reader = {"X-API-Key": create_key(capsys, "tracker:read")}
    assert client.get("/api/v1/today").status_code == 401
    assert client.get("/api/v1/today", headers={"X-API-Key": "coffee_wrong"}).status_code == 401
    assert client.get("/api/v1/today", headers=reader).status_code == 200
    cup = {"kind": "espresso", "caffeine_mg": 63}
    assert client.post("/api/v1/cups", json=cup, headers=reader).status_code == 403
