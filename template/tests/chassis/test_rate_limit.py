"""Rate limits: the requests that are rejected, and the headers of every response."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ..package import CHASSIS, module
from .conftest import Logs, Start, measured, settings_for_tests
from .test_errors import assert_is_problem

THINGS = "/api/things/1"
PROXY = "10.0.0.1"


def statuses(client: httpx.Client, path: str, times: int, **options: Any) -> list[int]:
    return [client.get(path, **options).status_code for _ in range(times)]


def from_address(address: str) -> dict[str, str]:
    """Return the headers of a request that a trusted proxy forwards."""
    return {"x-forwarded-for": address}


def test_every_response_shows_policy_and_remaining_requests(start: Start) -> None:
    """The headers follow draft-ietf-httpapi-ratelimit-headers."""
    client = start(rate_limit_default="3/minute")
    for remaining in (2, 1, 0):
        response = client.get(THINGS)
        assert response.status_code == 200
        assert response.headers["ratelimit-policy"] == '"default";q=3;w=60'
        match = re.fullmatch(r'"default";r=(\d+);t=(\d+)', response.headers["ratelimit"])
        assert match, response.headers["ratelimit"]
        assert int(match[1]) == remaining
        assert 0 <= int(match[2]) <= 60


def test_request_above_the_limit_gets_429_with_retry_after(start: Start, logs: Logs) -> None:
    """Both headers have the same number of seconds. The request is logged, but not as a failure."""
    client = start(rate_limit_default="3/minute")
    assert statuses(client, THINGS, 3) == [200] * 3
    response = client.get(THINGS)
    assert_is_problem(response, 429, "RATE_LIMITED")
    seconds = int(response.headers["retry-after"])
    assert 1 <= seconds <= 120
    assert response.headers["ratelimit"] == f'"default";r=0;t={seconds}'
    assert [entry["http.response.status_code"] for entry in logs("request_finished")] == [200, 200, 200, 429]
    assert not logs("request_failed")


def test_rejected_request_does_not_reach_its_handler(start: Start) -> None:
    """The limiter runs before the framework."""
    ran: list[None] = []
    client = start({"work": lambda: ran.append(None)}, rate_limit_default="2/minute")
    assert statuses(client, "/api/here/work", 4) == [200, 200, 429, 429]
    assert len(ran) == 2


def test_unknown_path_counts(start: Start) -> None:
    """Clients must not be able to search for paths without a limit."""
    assert statuses(start(rate_limit_default="2/minute"), "/nowhere", 3) == [404, 404, 429]


def test_rejected_requests_are_measured(start: Start) -> None:
    chassis: list[Any] = []
    assert statuses(start(install=chassis.append, rate_limit_default="2/minute"), THINGS, 3) == [200, 200, 429]
    found = measured(chassis[0])
    assert (found["rate_limit.rejected"], found["rate_limit.failed_open"]) == ({(): 1}, {(): 0})


def test_health_probes_are_neither_counted_nor_rejected(start: Start) -> None:
    """Probes are too frequent to be limited."""
    client = start(rate_limit_default="1/minute")
    assert statuses(client, "/health/live", 5) == [200] * 5
    assert statuses(client, THINGS, 2) == [200, 429]
    assert statuses(client, "/health", 5) == [200] * 5
    response = client.get("/health")
    assert "ratelimit" not in response.headers
    details = response.json()["checks"]["rate_limit"]["details"]
    assert (details["limited"], details["failed_open"]) == (1, 0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.1", "203.0.113.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),  # one client owns all addresses of a /64
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
    ],
)
def test_clients_are_counted_by_address(start: Start, one: str, other: str, same: bool) -> None:
    """IPv6 clients are counted by the /64 network of their address."""
    client = start(peer=PROXY, trusted_proxies=[PROXY], rate_limit_default="1/minute")
    assert statuses(client, THINGS, 2, headers=from_address(one)) == [200, 429]
    assert statuses(client, THINGS, 1, headers=from_address(other)) == [429 if same else 200]


@pytest.mark.parametrize(
    ("spellings", "key"),
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["2001:db8::1", "2001:DB8:0::1", "2001:db8::2%eth0"], "20010db800000000"),
        (["not an address"], "not an address"),
        (["not:an:address"], "not:an:address"),
    ],
)
def test_client_ip_key_is_the_same_for_all_spellings_of_an_address(spellings: list[str], key: str) -> None:
    """An IPv6 address counts by its /64 network, without zone."""
    client_ip_key = module("chassis.rate_limit.limiter").client_ip_key
    assert {client_ip_key(SimpleNamespace(client_address=address), {}) for address in spellings} == {key}


def test_forwarded_address_without_a_trusted_proxy_is_ignored(start: Start) -> None:
    """Clients cannot evade the limit with invented addresses."""
    client = start(rate_limit_default="1/minute")
    assert [client.get(THINGS, headers=from_address(f"192.0.2.{n}")).status_code for n in (1, 2)] == [200, 429]


@pytest.mark.parametrize("peer", ["192.0.2.{}", "::ffff:192.0.2.{}", "2001:db8:0:{}::1"])
def test_each_client_of_a_dual_stack_socket_has_its_own_limit(start: Start, peer: str) -> None:
    """With HOST=:: the kernel reports IPv4 clients as IPv4-mapped addresses."""
    for number in (1, 2):
        assert statuses(start(peer=peer.format(number), rate_limit_default="1/day"), THINGS, 2) == [200, 429]


def test_request_that_the_policy_rejects_counts(start: Start) -> None:
    """Foreign hosts, large bodies, repeated headers and preflights count. They reach no `before_request` hook."""
    seen: list[str] = []

    def install(chassis: Any) -> None:
        chassis.before_request.append(lambda context, headers: seen.append(context.path))

    client = start(
        install=install,
        rate_limit_default="4/day",
        max_request_body_bytes=10,
        cors_allowed_origins=["https://a.example"],
    )
    preflight = {"origin": "https://a.example", "access-control-request-method": "POST"}
    sent = [
        client.get(THINGS, headers={"host": "evil.example"}),
        client.post(THINGS, content=b"x" * 11),
        client.get(THINGS, headers=[("host", "localhost"), ("host", "localhost")]),
        client.options(THINGS, headers=preflight),
        client.options(THINGS, headers=preflight),
        client.get(THINGS, headers={"host": "evil.example"}),
    ]
    assert [response.status_code for response in sent] == [400, 413, 400, 204, 429, 429]
    assert sent[4].headers["access-control-allow-origin"] == "https://a.example"
    assert seen == []


@pytest.mark.skipif((CHASSIS / "api_keys").is_dir(), reason="the service checks API keys itself")
def test_clients_can_be_counted_by_api_key(start: Start) -> None:
    """A proxy in front has checked the key. Clients that send no X-API-Key are counted by address."""
    client = start(rate_limit_key="api-key", rate_limit_default="1/minute")
    for headers in ({"x-api-key": "one"}, {"x-api-key": "other"}, {}):
        assert statuses(client, THINGS, 2, headers=headers) == [200, 429]


def test_api_key_is_ignored_by_default(start: Start) -> None:
    """Otherwise clients could evade the limit with invented keys."""
    client = start(rate_limit_default="1/minute")
    assert [client.get(THINGS, headers={"x-api-key": key}).status_code for key in ("one", "other")] == [200, 429]


def test_service_can_replace_the_key(start: Start) -> None:
    """One line in main.py defines how clients are identified."""
    limiter = module("chassis.rate_limit.limiter").RateLimiter

    def install(chassis: Any) -> None:
        chassis.get(limiter).key = lambda context, headers: context.path

    client = start(install=install, rate_limit_default="1/minute")
    assert statuses(client, "/api/things/1", 2) == [200, 429]
    assert statuses(client, "/api/things/2", 2) == [200, 429]


def test_decorated_route_has_its_own_limit(start: Start) -> None:
    """The route is counted separately, and other routes with the same prefix are not affected."""
    client = start(rate_limit_default="4/minute")
    response = client.get("/api/things/rare/1")
    assert re.fullmatch(r'"[\w.]*rare";q=2;w=60', response.headers["ratelimit-policy"])
    assert statuses(client, "/api/things/rare/2", 2) == [200, 429]
    assert statuses(client, "/api/things/rare/often", 4) == [200] * 4
    assert statuses(client, THINGS, 1) == [429]
    assert statuses(client, "/api/things/free/1", 9) == [200] * 9
    assert "ratelimit" not in client.get("/api/things/free/1").headers


@pytest.mark.parametrize("text", ["", "ten/minute", "0/minute", "10/fortnight", "10", "5/0 minutes"])
def test_invalid_limit_is_rejected_at_start(text: str) -> None:
    """The error occurs at import or when settings are read, not at the first request."""
    with pytest.raises(ValueError, match="use the form 100/minute"):
        module("chassis.rate_limit").rate_limit(text)
    if text:  # an empty variable counts as not set
        with pytest.raises(module("chassis.settings").SettingsError, match="RATE_LIMIT_DEFAULT: invalid rate limit"):
            settings_for_tests(rate_limit_default=text)


def test_disabled_limits_neither_count_nor_set_headers(start: Start) -> None:
    """This includes the limits of decorated routes."""
    client = start(rate_limit_enabled=False, rate_limit_default="1/minute")
    assert statuses(client, THINGS, 3) == [200] * 3
    assert statuses(client, "/api/things/rare/1", 3) == [200] * 3
    assert "ratelimit" not in client.get(THINGS).headers


def test_parallel_requests_get_exactly_the_limit(start: Start) -> None:
    """Counting is atomic."""
    # The window is a day, because requests of a shorter window would be free again after seconds.
    client = start(rate_limit_default="20/day")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: client.get(THINGS).status_code, range(60)))
    assert found.count(200) == 20
    assert found.count(429) == 40
