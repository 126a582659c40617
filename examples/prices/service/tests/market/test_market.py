"""Prices, missing days and tokens, in the process of the tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import ValidationError

from ..chassis.in_process import open_client
from ..chassis.process import until
from ..chassis.upstream import Upstream, serving_upstream, status
from ..package import module
from .tokens import bearer, token

PRICES = "/api/v1/prices"
schemas = module("market.schemas")


@pytest.fixture
def trader(client: httpx.Client) -> httpx.Client:
    """A client with a token for both scopes."""
    client.headers.update(bearer(token("prices:read", "prices:write")))
    return client


def add(client: httpx.Client, usd: str, days_ago: int = 0) -> None:
    observed_at = (datetime.now(UTC) - timedelta(days=days_ago)).isoformat()
    assert client.post(PRICES, json={"usd": usd, "observed_at": observed_at}).status_code == 201


def test_newest_price_is_first(trader: httpx.Client) -> None:
    for usd, days_ago in (("64000.50", 0), ("60000.00", 2), ("62000.25", 1)):
        add(trader, usd, days_ago)
    items = trader.get(PRICES, params={"limit": 2}).json()["items"]
    assert [item["usd"] for item in items] == ["64000.50", "62000.25"]


def test_days_without_a_price_are_listed_in_health(trader: httpx.Client) -> None:
    for days_ago in (9, 5, 4, 2, 0):
        add(trader, "60000.00", days_ago)
    check = trader.get("/health").json()["checks"]["prices"]
    today = datetime.now(UTC).date()
    missing = [(today - timedelta(days=days)).isoformat() for days in (7, 6, 3, 1)]
    assert (check["status"], check["details"]["missing_days"]) == ("warning", missing)


@pytest.mark.parametrize("body", [{"usd": "0"}, {"usd": "1.001"}, {"usd": "many"}, {"usd": "1", "eur": "1"}])
def test_price_that_is_not_valid_is_rejected(trader: httpx.Client, body: dict[str, str]) -> None:
    assert trader.post(PRICES, json=body).status_code == 422


def test_scope_is_needed_to_write(client: httpx.Client) -> None:
    assert client.post(PRICES, json={"usd": "1"}, headers=bearer(token("prices:read"))).status_code == 403


@pytest.mark.parametrize(
    "sent",
    ["", "nonsense", "a.b.c", token("prices:read", seconds=-60), token("prices:read", aud="orders"),
     "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ0cmFkZXItNyJ9.", "x" * 9000],
)  # fmt: skip
def test_token_that_is_not_valid_is_401(client: httpx.Client, sent: str) -> None:
    response = client.get(PRICES, headers=bearer(sent))
    assert (response.status_code, response.json()["error_code"]) == (401, "UNAUTHENTICATED")
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.fixture
def collector(migrated: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[httpx.Client, Upstream, Upstream]]:
    """A client of a service that calls both upstreams, and the upstreams."""
    with serving_upstream() as spot, serving_upstream() as chain:
        settings = {
            "SPOT_URL": spot.url,
            "CHAIN_URL": chain.url,
            "POLL_INTERVAL_SECONDS": "0.05",
            "RETRY_ATTEMPTS": "1",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        with open_client(module("main").create_app()) as client:
            client.headers.update(bearer(token("prices:read")))
            yield client, spot, chain


def test_collected_price_is_stored_after_a_response_that_is_not_valid(
    collector: tuple[httpx.Client, Upstream, Upstream],
) -> None:
    """The transfers are read as well, again and again."""
    client, spot, chain = collector
    large, small = {"id": "a1", "btc": "1500"}, {"id": "a2", "btc": "1"}
    chain.respond(status(200, json.dumps([large, small]).encode()))
    spot.respond(status(200, b'{"usd": "-1"}'), status(200, b'{"usd": "64000.50"}'))
    until(lambda: client.get(PRICES).json()["items"])
    assert client.get(PRICES).json()["items"][0]["usd"] == "64000.50"
    calls = len(chain.received)
    until(lambda: len(chain.received) > calls + 2)
    assert client.get("/health").json()["checks"]["chain"]["status"] == "ok"


@pytest.mark.parametrize("text", [b"", b"[]", b'{"usd": "-1"}', b'{"usd": "NaN"}', b'{"usd": 1e99}', b"\xff"])
def test_response_of_an_upstream_that_is_not_valid_is_refused(text: bytes) -> None:
    with pytest.raises(ValidationError):
        schemas.SPOT.validate_json(text)
