"""Security: headers on every answer, cross-origin requests, hosts, proxies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .conftest import Logs, Start
from .server import SERVER_HEADER

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-xss-protection": "0",
}
HSTS = "max-age=63072000; includeSubDomains"
TOO_LARGE = b"x" * 2000

# Every way in which an answer comes about: by a handler, by the framework, by the chassis around it.
ANSWERS: dict[str, tuple[int, Callable[[httpx.Client], httpx.Response]]] = {
    "handler": (200, lambda client: client.get("/api/things/7")),
    "created": (201, lambda client: client.post("/api/things", json={"name": "x"})),
    "validation": (422, lambda client: client.post("/api/things", json={})),
    "not found": (404, lambda client: client.get("/nowhere")),
    "wrong method": (405, lambda client: client.delete("/api/things")),
    "framework's exception": (403, lambda client: client.get("/api/things/refused/403")),
    "crash": (500, lambda client: client.get("/api/here/crash")),
    "crash in a thread": (500, lambda client: client.get("/api/thread/crash")),
    "crash in a middleware": (500, lambda client: client.get("/crash-in-middleware")),
    "foreign host": (400, lambda client: client.get("/", headers={"host": "evil.example"})),
    "too large": (413, lambda client: client.post("/api/things", content=TOO_LARGE)),
    "too slow": (504, lambda client: client.get("/api/slow/20")),
    "health": (200, lambda client: client.get("/health/ready")),
    "alive": (200, lambda client: client.get("/health/live")),
}


@pytest.mark.parametrize(("status", "ask"), ANSWERS.values(), ids=ANSWERS.keys())
def test_every_answer_carries_the_security_headers_and_an_id(
    start: Start, status: int, ask: Callable[[httpx.Client], httpx.Response]
) -> None:
    """Whoever made it: a handler, the framework, or the chassis in front of both."""
    timeout_seconds = 0.5 if status == 504 else 30
    client = start({"crash": lambda: 1 // 0}, max_request_body_bytes=1000, request_timeout_seconds=timeout_seconds)
    answer = ask(client)
    assert answer.status_code == status
    assert HEADERS.items() <= answer.headers.items()
    assert answer.headers["x-request-id"]
    assert not {"x-powered-by", "strict-transport-security"} & answer.headers.keys()
    assert answer.headers.get("server") == SERVER_HEADER
    names = [name.lower() for name, _ in answer.headers.multi_items()]
    assert len(names) == len(set(names))


def test_permissions_policy_turns_everything_off(start: Start) -> None:
    """Every feature in it has an empty allow-list."""
    policy = start().get("/api/things/7").headers["permissions-policy"].split(", ")
    assert {"camera=()", "geolocation=()", "microphone=()", "payment=()"} <= set(policy)
    assert all(directive.endswith("=()") for directive in policy)


def test_a_route_keeps_its_own_value(start: Start) -> None:
    """A page that is meant to be framed says so; the other headers are added, and none stands twice."""
    headers = start().get("/api/things/framed/by-us").headers
    assert headers.get_list("x-frame-options") == ["SAMEORIGIN"]
    assert headers.get_list("referrer-policy") == ["origin"]
    assert headers["x-content-type-options"] == "nosniff"


# -- proxies and HTTPS -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "sent", "expected"),
    [
        ("10.0.0.1", {"x-forwarded-proto": "https"}, HSTS),
        ("10.0.0.1", {"x-forwarded-proto": "http, https"}, HSTS),
        ("10.0.0.1", {"x-forwarded-proto": "http"}, None),
        ("10.0.0.1", {"x-forwarded-proto": "gopher"}, None),
        ("192.0.2.7", {"x-forwarded-proto": "https"}, None),
        ("10.0.0.1", {}, None),
    ],
    ids=["https", "the nearest proxy counts", "http", "nonsense", "not a trusted proxy", "nothing said"],
)
def test_hsts_is_sent_over_https_only(start: Start, peer: str, sent: dict[str, str], expected: str | None) -> None:
    """The proxy says that it was HTTPS, and only a trusted one is believed."""
    client = start(peer=peer, trusted_proxies=["10.0.0.0/8"])
    assert client.get("/api/things/7", headers=sent).headers.get("strict-transport-security") == expected
    assert client.get("/nowhere", headers=sent).headers.get("strict-transport-security") == expected


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client_address"),
    [
        ("10.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("10.0.0.1", "6.6.6.6, 192.0.2.7", "192.0.2.7"),
        ("10.0.0.1", "192.0.2.7, 10.0.0.2", "192.0.2.7"),
        ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("192.0.2.9", "127.0.0.1", "192.0.2.9"),
    ],
    ids=["client", "forged in front", "two proxies", "IPv6", "nonsense", "nothing", "not a trusted proxy"],
)
def test_the_client_is_the_nearest_address_that_is_no_trusted_proxy(
    start: Start, logs: Logs, peer: str, forwarded_for: str, client_address: str
) -> None:
    """What stands left of it in X-Forwarded-For may be forged."""
    start(peer=peer, trusted_proxies=["10.0.0.0/8"]).get("/", headers={"x-forwarded-for": forwarded_for})
    assert [line["client.address"] for line in logs("request_finished")] == [client_address]


def test_no_proxy_is_trusted_by_default(start: Start, logs: Logs) -> None:
    """Not even one on this machine."""
    headers = start().get("/", headers={"x-forwarded-for": "6.6.6.6", "x-forwarded-proto": "https"}).headers
    assert "strict-transport-security" not in headers
    assert [line["client.address"] for line in logs("request_finished")] == ["127.0.0.1"]


# -- hosts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("api.example.com", 200),
        ("API.example.com:8443", 200),
        ("one.example.org", 200),
        ("example.org", 400),
        ("evil.example", 400),
        ("api.example.com.evil.example", 400),
        ("evil.example#api.example.com", 400),
        ("", 400),
    ],
)
def test_only_allowed_hosts_are_served(start: Start, host: str, status: int) -> None:
    """Case and port do not matter; `*.example.org` takes the subdomains, and not the domain itself."""
    client = start(allowed_hosts=["api.example.com", "*.example.org"])
    answer = client.get("/api/things/7", headers={"host": host})
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["error_code"] == "BAD_REQUEST"


def test_every_host_can_be_allowed(start: Start) -> None:
    """`*`, for development behind changing names."""
    assert start(allowed_hosts=["*"]).get("/api/things/7", headers={"host": "any.example"}).status_code == 200


# -- cross-origin requests ---------------------------------------------------------------------------------------------

PAGE, OTHER = "https://app.example.com", "https://evil.example"


def preflight(client: httpx.Client, origin: str = PAGE) -> httpx.Response:
    headers = {"origin": origin, "access-control-request-method": "POST"}
    return client.options("/api/things", headers=headers)


def cors_headers(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


def test_cors_is_off_by_default(start: Start) -> None:
    """No page of another origin may read an answer, and a preflight is an ordinary request."""
    client = start()
    assert not cors_headers(client.get("/api/things/7", headers={"origin": PAGE}))
    answer = preflight(client)
    assert not cors_headers(answer)
    assert answer.status_code != 204


def test_a_named_origin_may_read_answers(start: Start) -> None:
    """It may see the request id too; caches keep the answers to different origins apart."""
    answer = start(cors_allowed_origins=[PAGE]).get("/api/things/7", headers={"origin": PAGE})
    assert cors_headers(answer) == {
        "access-control-allow-origin": PAGE,
        "access-control-expose-headers": "x-request-id",
    }
    assert "Origin" in answer.headers["vary"]


def test_errors_can_be_read_by_a_named_origin_too(start: Start) -> None:
    """Otherwise the page sees a network failure instead of a problem."""
    client = start({"crash": lambda: 1 // 0}, cors_allowed_origins=[PAGE])
    for path in ("/nowhere", "/api/here/crash", "/crash-in-middleware"):
        answer = client.get(path, headers={"origin": PAGE})
        assert answer.headers["access-control-allow-origin"] == PAGE


def test_another_origin_may_not(start: Start) -> None:
    """It gets no permission; the answer still varies by origin."""
    client = start(cors_allowed_origins=[PAGE])
    for answer in (client.get("/api/things/7", headers={"origin": OTHER}), preflight(client, OTHER)):
        assert not cors_headers(answer)
        assert "Origin" in answer.headers["vary"]


def test_a_preflight_is_answered_before_the_application(start: Start) -> None:
    """Methods, headers, and for how long."""
    answer = preflight(start(cors_allowed_origins=[PAGE], cors_max_age_seconds=60))
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type, x-request-id"
    assert answer.headers["access-control-max-age"] == "60"


def test_credentials_are_sent_along_only_when_allowed(start: Start) -> None:
    """Cookies of another origin are a decision."""
    sent = {"origin": PAGE}
    name = "access-control-allow-credentials"
    assert name not in start(cors_allowed_origins=[PAGE]).get("/", headers=sent).headers
    allowed: Any = start(cors_allowed_origins=[PAGE], cors_allow_credentials=True).get("/", headers=sent)
    assert allowed.headers[name] == "true"
