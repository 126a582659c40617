"""Rate limits: who is refused, when, and what every answer says of it."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from ..package import module
from .conftest import Logs, Start, settings_for_tests
from .test_errors import assert_is_problem

THINGS = "/api/things/1"
PROXY = "10.0.0.1"


def statuses(client: httpx.Client, path: str, times: int, **options: Any) -> list[int]:
    return [client.get(path, **options).status_code for _ in range(times)]


def from_address(address: str) -> dict[str, str]:
    """Return the headers of a request that a trusted proxy passes on."""
    return {"x-forwarded-for": address}


def test_every_answer_says_what_is_left(start: Start) -> None:
    """In the fields of draft-ietf-httpapi-ratelimit-headers: the policy, and what remains of it until when."""
    client = start(rate_limit_default="3/minute")
    for remaining in (2, 1, 0):
        answer = client.get(THINGS)
        assert answer.status_code == 200
        assert answer.headers["ratelimit-policy"] == '"default";q=3;w=60'
        match = re.fullmatch(r'"default";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
        assert match, answer.headers["ratelimit"]
        assert int(match[1]) == remaining
        assert 0 <= int(match[2]) <= 60


def test_one_request_too_many_is_429(start: Start, logs: Logs) -> None:
    """With a problem body and the time after which it is worth another try, the same in both headers."""
    client = start(rate_limit_default="3/minute")
    assert statuses(client, THINGS, 3) == [200] * 3
    answer = client.get(THINGS)
    assert_is_problem(answer, 429, "RATE_LIMITED")
    seconds = int(answer.headers["retry-after"])
    assert 1 <= seconds <= 120
    assert answer.headers["ratelimit"] == f'"default";r=0;t={seconds}'
    assert [line["http.response.status_code"] for line in logs("request_finished")] == [200, 200, 200, 429]
    assert not logs("request_failed")


def test_the_handler_of_a_refused_request_does_not_run(start: Start) -> None:
    """It is judged before the framework sees it."""
    ran: list[None] = []
    client = start({"work": lambda: ran.append(None)}, rate_limit_default="2/minute")
    assert statuses(client, "/api/here/work", 4) == [200, 200, 429, 429]
    assert len(ran) == 2


def test_what_does_not_exist_is_counted_too(start: Start) -> None:
    """Nobody looks for open doors without an end."""
    assert statuses(start(rate_limit_default="2/minute"), "/nowhere", 3) == [404, 404, 429]


def test_health_is_not_counted_and_never_refused(start: Start) -> None:
    """Probes come often."""
    client = start(rate_limit_default="1/minute")
    assert statuses(client, "/health/live", 5) == [200] * 5
    assert statuses(client, THINGS, 2) == [200, 429]
    assert statuses(client, "/health", 5) == [200] * 5
    assert "ratelimit" not in client.get("/health").headers
    assert client.get("/health").json()["checks"]["rate_limit"]["details"] == {"limited": 1, "let_through": 0}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.1", "203.0.113.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),  # one customer has all addresses of a /64
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
    ],
)
def test_clients_are_counted_apart(start: Start, one: str, other: str, same: bool) -> None:
    """By their address; in IPv6 by its first 64 bits."""
    client = start(peer=PROXY, trusted_proxies=[PROXY], rate_limit_default="1/minute")
    assert statuses(client, THINGS, 2, headers=from_address(one)) == [200, 429]
    assert statuses(client, THINGS, 1, headers=from_address(other)) == [429 if same else 200]


def test_an_address_that_a_client_makes_up_changes_nothing(start: Start) -> None:
    """Only a trusted proxy is believed."""
    client = start(rate_limit_default="1/minute")
    assert [client.get(THINGS, headers=from_address(f"192.0.2.{n}")).status_code for n in (1, 2)] == [200, 429]


def test_clients_may_be_counted_by_key(start: Start) -> None:
    """By X-API-Key where it is asked for; who sends none is counted by address."""
    client = start(rate_limit_by="api-key", rate_limit_default="1/minute")
    for headers in ({"x-api-key": "one"}, {"x-api-key": "other"}, {}):
        assert statuses(client, THINGS, 2, headers=headers) == [200, 429]
    elsewhere = f"{settings_for_tests().cache_namespace}-default"
    default = start(rate_limit_default="1/minute", cache_namespace=elsewhere)
    assert [default.get(THINGS, headers={"x-api-key": key}).status_code for key in ("one", "other")] == [200, 429]


def test_clients_may_be_named_by_the_service(start: Start) -> None:
    """One line in main.py says whom a request counts against."""
    limits = module("chassis.rate_limit.judge").RateLimits

    def install(service: Any) -> None:
        service.get(limits).key = lambda context, head: context.path

    client = start(install=install, rate_limit_default="1/minute")
    assert statuses(client, "/api/things/1", 2) == [200, 429]
    assert statuses(client, "/api/things/2", 2) == [200, 429]


def test_a_route_may_have_a_limit_of_its_own(start: Start) -> None:
    """One line above its handler; it is counted apart from the default, and from the routes beside it."""
    client = start(rate_limit_default="4/minute")
    answer = client.get("/api/things/rare/1")
    assert re.fullmatch(r'"[\w.]*rare";q=2;w=60', answer.headers["ratelimit-policy"])
    assert statuses(client, "/api/things/rare/2", 2) == [200, 429]
    assert statuses(client, "/api/things/rare/often", 4) == [200] * 4
    assert statuses(client, THINGS, 1) == [429]
    assert statuses(client, "/api/things/free/1", 9) == [200] * 9
    assert "ratelimit" not in client.get("/api/things/free/1").headers


def test_a_limit_that_is_written_wrongly_is_refused_at_once() -> None:
    """At import, not with the first request."""
    for text in ("", "ten/minute", "0/minute", "10/fortnight", "10", "5/0 minutes"):
        with pytest.raises(ValueError, match="write it like 100/minute"):
            module("chassis.rate_limit").rate_limit(text)
    with pytest.raises(module("chassis.settings").SettingsError, match="RATE_LIMIT_DEFAULT"):
        settings_for_tests(rate_limit_default="often")


def test_limits_can_be_switched_off(start: Start) -> None:
    """Then nothing counts, and nothing says so."""
    client = start(rate_limit_enabled=False, rate_limit_default="1/minute")
    assert statuses(client, THINGS, 3) == [200] * 3
    assert statuses(client, "/api/things/rare/1", 3) == [200] * 3
    assert "ratelimit" not in client.get(THINGS).headers


def test_many_at_once_get_no_more_than_the_limit(start: Start) -> None:
    """Counting is one step, however many ask together."""
    client = start(rate_limit_default="20/day")  # of a window that just ended some would be free again after seconds
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: client.get(THINGS).status_code, range(60)))
    assert got.count(200) == 20
    assert got.count(429) == 40
