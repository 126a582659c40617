"""The scores, the records of the marketplace, and the list of offers, in the process of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from ..chassis.in_process import open_client
from ..chassis.upstream import Upstream, serving_upstream, status
from ..package import module, program
from .records import page, record

score = module("offers.scoring").score
cli = module("chassis.cli")
IMPORTS = "/api/v1/imports"


@pytest.fixture
def marketplace() -> Iterator[Upstream]:
    with serving_upstream() as serving:
        yield serving


@pytest.fixture
def shopper(migrated: None, marketplace: Upstream, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A client of a service that imports from the marketplace of the test."""
    monkeypatch.setenv("MARKETPLACE_URL", marketplace.url)
    monkeypatch.setenv("RETRY_ATTEMPTS", "1")
    with open_client(module("main").create_app()) as client:
        yield client


@pytest.mark.parametrize(
    ("price", "usual_price", "rating", "points"),
    [
        ("100", "100", 0, 0),
        ("100", "100", 5, 30),
        ("120", "100", 5, 30),
        ("75", "100", 0, 35),
        ("50", "100", 0, 70),
        ("1", "100", 5, 100),
        ("0", "100", 2.5, 85),
    ],
)
def test_score_of_an_offer_depends_on_discount_and_rating(
    price: str, usual_price: str, rating: float, points: int
) -> None:
    assert score(Decimal(price), Decimal(usual_price), rating) == points


def test_best_offer_is_first_and_known_offers_are_not_stored_again(
    shopper: httpx.Client, marketplace: Upstream
) -> None:
    marketplace.respond(status(200, page(record("a", "90.00"), record("b", "60.00"), record("b", "60.00"))))
    assert shopper.post(IMPORTS).json() == {"new": 2, "known": 0, "invalid": 0}
    assert shopper.post(IMPORTS).json() == {"new": 0, "known": 2, "invalid": 0}
    items = shopper.get("/api/v1/offers").json()["items"]
    assert [(item["title"], item["score"]) for item in items] == [("Tea b", 86), ("Tea a", 44)]
    assert [item["title"] for item in shopper.get("/api/v1/offers?min_score=80").json()["items"]] == ["Tea b"]


@pytest.mark.parametrize(
    "fields",
    [
        {"title": ""},
        {"url": "http://market.example.com/a"},
        {"url": "https://127.0.0.1/a"},
        {"url": "javascript:alert(1)"},
        {"price": {"amount": "1.001", "currency": "EUR"}},
        {"price": {"amount": "1", "currency": "XXX"}},
        {"price": {"amount": "1", "currency": "USD"}},
        {"price": {"amount": "-1", "currency": "EUR"}},
        {"usual_price": {"amount": "0", "currency": "EUR"}},
        {"rating": 6},
        {"id": "../a"},
    ],
)
def test_record_that_is_not_valid_is_left_out(
    shopper: httpx.Client, marketplace: Upstream, fields: dict[str, Any]
) -> None:
    marketplace.respond(status(200, page(record("a", "50.00") | fields, record("good", "50.00"))))
    assert shopper.post(IMPORTS).json() == {"new": 1, "known": 0, "invalid": 1}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"offers": {}}'])
def test_page_that_is_not_valid_is_503(shopper: httpx.Client, marketplace: Upstream, body: bytes) -> None:
    marketplace.respond(status(200, body))
    response = shopper.post(IMPORTS)
    assert (response.status_code, response.json()["error_code"]) == (503, "UNAVAILABLE")


def test_migrations_go_down_and_up(migrated: None) -> None:
    """After that the schema is what the models describe."""
    for arguments in (["downgrade", "base"], [], ["check"]):
        assert cli.main(program(), ["migrate", *arguments]) == 0, arguments
