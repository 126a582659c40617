"""Security: response headers, cross-origin requests, hosts, proxies, repeated headers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .application import client_host, sent_header
from .conftest import Logs, Start

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

# Every part that makes responses: a handler, the framework, the chassis around it.
RESPONSES: dict[str, tuple[int, Callable[[httpx.Client], httpx.Response]]] = {
    "handler": (200, lambda client: client.get("/api/things/7")),
    "created": (201, lambda client: client.post("/api/things", json={"name": "x"})),
    "validation": (422, lambda client: client.post("/api/things", json={})),
    "not found": (404, lambda client: client.get("/nowhere")),
    "wrong method": (405, lambda client: client.delete("/api/things")),
    "framework's exception": (403, lambda client: client.get("/api/things/refused/403")),
    "crash": (500, lambda client: client.get("/api/here/crash")),
    "crash in a thread": (500, lambda client: client.get("/api/thread/crash")),
    "exception in a middleware": (403, lambda client: client.get("/refused-in-middleware")),
    "crash in a middleware": (500, lambda client: client.get("/crash-in-middleware")),
    "foreign host": (400, lambda client: client.get("/", headers={"host": "evil.example"})),
    "too large": (413, lambda client: client.post("/api/things", content=TOO_LARGE)),
    "too slow": (504, lambda client: client.get("/api/slow/20")),
    "health": (200, lambda client: client.get("/health/ready")),
    "alive": (200, lambda client: client.get("/health/live")),
}


@pytest.mark.parametrize(("status", "send"), RESPONSES.values(), ids=RESPONSES.keys())
def test_response_of_any_origin_has_security_headers_and_id(
    start: Start, status: int, send: Callable[[httpx.Client], httpx.Response]
) -> None:
    """Handlers, the framework and the chassis all produce such responses."""
    timeout_seconds = 0.5 if status == 504 else 30
    client = start({"crash": lambda: 1 // 0}, max_request_body_bytes=1000, request_timeout_seconds=timeout_seconds)
    response = send(client)
    assert response.status_code == status
    assert HEADERS.items() <= response.headers.items()
    assert response.headers["x-request-id"]
    assert not {"server", "x-powered-by", "strict-transport-security"} & response.headers.keys()
    names = [name.lower() for name, _ in response.headers.multi_items()]
    assert len(names) == len(set(names))


def test_permissions_policy_disables_every_feature(start: Start) -> None:
    policy = start().get("/api/things/7").headers["permissions-policy"].split(", ")
    assert {"camera=()", "geolocation=()", "microphone=()", "payment=()"} <= set(policy)
    assert all(directive.endswith("=()") for directive in policy)


def test_security_header_of_a_route_keeps_its_value(start: Start) -> None:
    """The other security headers are added, and no header occurs twice."""
    headers = start().get("/api/things/framed/by-us").headers
    assert headers.get_list("x-frame-options") == ["SAMEORIGIN"]
    assert headers.get_list("referrer-policy") == ["origin"]
    assert headers["x-content-type-options"] == "nosniff"


def test_header_of_every_response_with_a_control_character_fails_the_start(start: Start, logs: Logs) -> None:
    """The rest of the value would become another header."""
    with pytest.raises(AssertionError, match=r"startup\.failed"):
        start(install=lambda chassis: chassis.response_headers.update({"x-team": "orders\r\nx-admin: yes"}))
    (failed,) = logs("startup_failed")
    assert "the header 'x-team' of every response has an invalid character" in failed["exception"]


def test_header_of_every_response_replaces_the_default_in_any_case(start: Start) -> None:
    def install(chassis: Any) -> None:
        chassis.response_headers["X-Frame-Options"] = "SAMEORIGIN"
        chassis.https_response_headers["Strict-Transport-Security"] = "max-age=60"

    client = start(install=install, trusted_proxies=["127.0.0.1"])
    headers = client.get("/nowhere", headers={"x-forwarded-proto": "https"}).headers
    assert headers.get_list("x-frame-options") == ["SAMEORIGIN"]
    assert headers.get_list("strict-transport-security") == ["max-age=60"]


# -- proxies and HTTPS -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "sent", "expected"),
    [
        ("10.0.0.1", {"x-forwarded-proto": "https"}, HSTS),
        ("10.0.0.1", {"x-forwarded-proto": "http, https"}, HSTS),
        ("10.0.0.1", {"x-forwarded-proto": "https, http"}, HSTS),
        ("::ffff:10.0.0.1", {"x-forwarded-proto": "HTTPS"}, HSTS),
        ("10.0.0.1", {"x-forwarded-proto": "http, http"}, None),
        ("10.0.0.1", {"x-forwarded-proto": "http"}, None),
        ("10.0.0.1", {"x-forwarded-proto": "gopher"}, None),
        ("192.0.2.7", {"x-forwarded-proto": "https"}, None),
        ("10.0.0.1", {}, None),
    ],
    ids=[
        "https", "https behind http", "http behind https", "mapped proxy", "http twice", "http", "nonsense",
        "not a trusted proxy", "nothing",
    ],
)  # fmt: skip
def test_hsts_is_sent_over_https_only(start: Start, peer: str, sent: dict[str, str], expected: str | None) -> None:
    """A trusted proxy reports the scheme, and proxies in a row report one scheme each."""
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
        ("10.0.0.1", "203.0.113.7:51234", "203.0.113.7"),
        ("10.0.0.1", "[2001:db8::7]:51234", "2001:db8::7"),
        ("10.0.0.1", "[2001:DB8:0::7]", "2001:db8::7"),
        ("10.0.0.1", "::ffff:203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7, ::ffff:10.0.0.6", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7:80, [::ffff:10.0.0.6]:80", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7, ", "203.0.113.7"),
        ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("::ffff:192.0.2.9", "203.0.113.7", "192.0.2.9"),
        ("fe80::1%eth0", "203.0.113.7", "fe80::1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7:port", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("192.0.2.9", "127.0.0.1", "192.0.2.9"),
    ],
    ids=[
        "client", "forged in front", "two proxies", "IPv6", "port", "IPv6 with port", "IPv6 in brackets",
        "mapped client", "mapped proxy in front", "two ports", "empty element", "mapped proxy", "mapped client alone",
        "zone", "nonsense", "nonsense as port", "nothing", "not a trusted proxy",
    ],
)  # fmt: skip
def test_client_address_is_the_nearest_untrusted_one(
    start: Start, logs: Logs, peer: str, forwarded_for: str, client_address: str
) -> None:
    """Addresses further to the left in X-Forwarded-For may be forged. Log, hooks and framework see one spelling."""
    client = start({"address": client_host}, peer=peer, trusted_proxies=["10.0.0.0/8"])
    assert client.get("/api/here/address", headers={"x-forwarded-for": forwarded_for}).json() == client_address
    assert [entry["client.address"] for entry in logs("request_finished")] == [client_address]


def test_trusted_proxy_may_be_written_as_mapped_address(start: Start, logs: Logs) -> None:
    """`TRUSTED_PROXIES` and peers are compared in one form."""
    client = start(peer="10.0.0.1", trusted_proxies=["::ffff:10.0.0.0/104", "2001:db8::/32"])
    client.get("/", headers={"x-forwarded-for": "203.0.113.7, 2001:db8::1"})
    assert [entry["client.address"] for entry in logs("request_finished")] == ["203.0.113.7"]


def test_forwarded_headers_are_ignored_by_default(start: Start, logs: Logs) -> None:
    headers = start().get("/", headers={"x-forwarded-for": "6.6.6.6", "x-forwarded-proto": "https"}).headers
    assert "strict-transport-security" not in headers
    assert [entry["client.address"] for entry in logs("request_finished")] == ["127.0.0.1"]


# -- hosts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("api.example.com", 200),
        ("API.example.com:8443", 200),
        ("api.example.com.", 200),
        ("api.example.com.:8443", 200),
        ("one.example.org.", 200),
        ("written.example", 200),
        ("one.example.org", 200),
        ("example.org", 400),
        ("evil.example", 400),
        ("api.example.com.evil.example", 400),
        ("evil.example#api.example.com", 400),
        ("api.example.com..", 400),
        (".", 400),
        ("", 400),
    ],
)
def test_host_that_is_not_allowed_is_400(start: Start, host: str, status: int) -> None:
    """Case, port and a final dot do not matter. `*.example.org` allows subdomains, but not the domain itself."""
    client = start(allowed_hosts=["api.example.com", "*.example.org", "written.example."])
    response = client.get("/api/things/7", headers={"host": host})
    assert response.status_code == status
    if status == 400:
        assert response.json()["error_code"] == "BAD_REQUEST"


def test_host_wildcard_allows_every_host(start: Start) -> None:
    assert start(allowed_hosts=["*"]).get("/api/things/7", headers={"host": "any.example"}).status_code == 200


# -- cross-origin requests ---------------------------------------------------------------------------------------------

PAGE, OTHER = "https://app.example.com", "https://evil.example"


def preflight(client: httpx.Client, origin: str = PAGE) -> httpx.Response:
    headers = {"origin": origin, "access-control-request-method": "POST"}
    return client.options("/api/things", headers=headers)


def cors_headers(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


def test_cors_is_off_by_default(start: Start) -> None:
    """A preflight request is then treated like any other request."""
    client = start()
    assert not cors_headers(client.get("/api/things/7", headers={"origin": PAGE}))
    response = preflight(client)
    assert not cors_headers(response)
    assert response.status_code != 204


def test_response_to_an_allowed_origin_has_cors_headers(start: Start) -> None:
    """Pages may read the request id, and caches store one response per origin."""
    response = start(cors_allowed_origins=[PAGE]).get("/api/things/7", headers={"origin": PAGE})
    assert cors_headers(response) == {
        "access-control-allow-origin": PAGE,
        "access-control-expose-headers": "x-request-id",
    }
    assert "Origin" in response.headers["vary"]


def test_error_for_an_allowed_origin_has_cors_headers(start: Start) -> None:
    """Otherwise the page would see a network failure instead of the problem body."""
    client = start({"crash": lambda: 1 // 0}, cors_allowed_origins=[PAGE])
    for path in ("/nowhere", "/api/here/crash", "/crash-in-middleware"):
        response = client.get(path, headers={"origin": PAGE})
        assert response.headers["access-control-allow-origin"] == PAGE


def test_response_to_another_origin_has_no_cors_headers(start: Start) -> None:
    """The response still has `Vary: Origin`."""
    client = start(cors_allowed_origins=[PAGE])
    for response in (client.get("/api/things/7", headers={"origin": OTHER}), preflight(client, OTHER)):
        assert not cors_headers(response)
        assert "Origin" in response.headers["vary"]


def test_preflight_is_answered_before_the_application(start: Start) -> None:
    response = preflight(start(cors_allowed_origins=[PAGE], cors_max_age_seconds=60))
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == PAGE
    assert "POST" in response.headers["access-control-allow-methods"]
    assert response.headers["access-control-allow-headers"] == "authorization, content-type, x-request-id"
    assert response.headers["access-control-max-age"] == "60"


def test_cors_credentials_need_a_setting(start: Start) -> None:
    sent = {"origin": PAGE}
    name = "access-control-allow-credentials"
    assert name not in start(cors_allowed_origins=[PAGE]).get("/", headers=sent).headers
    allowed: Any = start(cors_allowed_origins=[PAGE], cors_allow_credentials=True).get("/", headers=sent)
    assert allowed.headers[name] == "true"


# -- repeated headers --------------------------------------------------------------------------------------------------


def both(name: str, *values: str) -> list[tuple[str, str]]:
    return [(name, value) for value in values]


@pytest.mark.parametrize("headers", [
    both("host", "localhost", "localhost"), both("host", "localhost", "other.invalid"),
    both("content-type", "application/json", "text/plain"), both("content-length", "0", "0"),
], ids=["one host twice", "two hosts", "content types", "lengths"])  # fmt: skip
def test_repeated_header_that_may_occur_once_is_400(start: Start, headers: list[tuple[str, str]]) -> None:
    """A proxy and the service might each use a different one."""
    response = start().post("/api/things", headers=headers)
    assert (response.status_code, response.json()["error_code"]) == (400, "BAD_REQUEST")


def test_repeated_request_id_is_replaced(start: Start, logs: Logs) -> None:
    """The header and the log have one new id."""
    response = start().get("/api/things/7", headers=both("x-request-id", "one", "two"))
    (request_id,) = response.headers.get_list("x-request-id")
    assert request_id not in ("one", "two")
    assert [entry["request_id"] for entry in logs("request_finished")] == [request_id]


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
def test_repeated_credential_is_dropped_for_hooks_and_framework(start: Start, name: str) -> None:
    """Neither hooks nor the framework can choose one of them."""
    seen: list[str | None] = []

    def install(chassis: Any) -> None:
        chassis.before_request.append(lambda context, headers: seen.append(headers.get(name)))

    client = start({"credential": lambda: sent_header(name)}, install=install)
    assert client.get("/api/here/credential", headers=both(name, "one", "two")).json() is None
    assert client.get("/api/here/credential", headers=both(name, "one")).json() == "one"
    assert seen == [None, "one"]


@pytest.mark.parametrize(("name", "joined"), [("accept-language", "de, en"), ("cookie", "de; en")])
def test_repeated_header_is_one_joined_value_for_hooks_and_framework(start: Start, name: str, joined: str) -> None:
    """Both read the same value (RFC 9110, 5.3; RFC 6265, 5.4)."""
    seen: list[str | None] = []

    def install(chassis: Any) -> None:
        chassis.before_request.append(lambda context, headers: seen.append(headers.get(name)))

    client = start({"header": lambda: sent_header(name)}, install=install)
    assert client.get("/api/here/header", headers=both(name, "de", "en")).json() == joined
    assert seen == [joined]


def test_repeated_forwarded_header_is_joined_in_order(start: Start, logs: Logs) -> None:
    """A list header may have several lines (RFC 9110, 5.3)."""
    client = start(peer="10.0.0.1", trusted_proxies=["10.0.0.0/8"])
    client.get("/", headers=both("x-forwarded-for", "6.6.6.6", "192.0.2.7"))
    assert [entry["client.address"] for entry in logs("request_finished")] == ["192.0.2.7"]
