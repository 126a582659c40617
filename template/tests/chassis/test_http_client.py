"""The HTTP client against a real service on a socket, which responds correctly, wrongly, late or never."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest
import stamina

from ..package import module
from ..servers import free_port
from .calling import clients, running
from .conftest import Logs, Start, settings_for_tests
from .process import PATIENCE_SECONDS
from .test_errors import assert_is_problem
from .upstream import Upstream, cut, serving_upstream, status

errors = module("chassis.errors")
request_context = module("chassis.request_context")
FEATURES = [module("chassis.logging.config"), module("chassis.http_client")]
circuit_breaker = module("chassis.http_client").circuit_breaker
UpstreamCheck = module("chassis.http_client.health").Upstream
CheckFailedError = module("chassis.health.checks").CheckFailedError

# Short, so that the tests are fast, and much longer than a good response takes on a busy machine.
SHORT_SECONDS = 0.3
# The timeout that must not end a call, and the delay that a busy machine may add to the one that ends it.
LONG_SECONDS, BOUND_SECONDS = 60, 20


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    """Use the test mode of stamina: the same number of tries without pauses."""
    with stamina.set_testing(True, attempts=1000, cap=True):
        yield


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with serving_upstream() as serving:
        yield serving


def build(**settings: Any) -> Any:
    """Return the chassis of a service that only calls others."""
    return module("chassis.app").build(settings_for_tests(**settings), FEATURES)


class Caller:
    """The methods of a client, called where a handler of the service would call them."""

    def __init__(self, client: Any, call: Callable[..., Any], chassis: Any) -> None:
        self.client, self.chassis, self._call = client, chassis, call

    def __getattr__(self, name: str) -> Callable[..., httpx.Response]:
        return lambda *args, **kwargs: self._call(partial(getattr(self.client, name), *args, **kwargs))


Connect = Callable[..., Caller]


@pytest.fixture
def connect(upstream: Upstream) -> Iterator[Connect]:
    """Start a service with a client of the upstream, or of another `base_url`; other arguments are settings."""
    with ExitStack() as stack:

        def open_one(base_url: str | None = None, options: dict[str, Any] | None = None, **settings: Any) -> Caller:
            chassis = build(**settings)
            client = clients.add_http_client(chassis, "prices", base_url or upstream.url, **options or {})
            return Caller(client, stack.enter_context(running(chassis)), chassis)

        yield open_one


def methods(upstream: Upstream) -> list[str]:
    return [request.method for request in upstream.received]


# -- a call ------------------------------------------------------------------------------------------------------------


def test_call_sends_the_request_and_returns_the_response(connect: Connect, upstream: Upstream) -> None:
    upstream.respond(status(201, b'{"price": 3}'))
    response = connect().post("/prices", json={"name": "tea"}, params={"day": "today"})
    assert (response.status_code, response.json()) == (201, {"price": 3})
    (request,) = upstream.received
    assert (request.method, request.path, request.body) == ("POST", "/prices?day=today", b'{"name":"tea"}')


def test_each_common_method_has_a_function(connect: Connect, upstream: Upstream) -> None:
    """Any other method is sent with `request`."""
    caller = connect()
    for name in ("get", "post", "put", "patch", "delete"):
        assert getattr(caller, name)("/prices").status_code == 200
    assert caller.request("PUT", "/prices").status_code == 200
    assert methods(upstream) == ["GET", "POST", "PUT", "PATCH", "DELETE", "PUT"]


def test_calls_reuse_the_connection(connect: Connect, upstream: Upstream) -> None:
    caller = connect()
    for _ in range(5):
        caller.get("/")
    assert len({request.connection for request in upstream.received}) == 1


def test_client_is_closed_when_the_service_stops(upstream: Upstream) -> None:
    chassis = build()
    client = clients.add_http_client(chassis, "prices", upstream.url)
    with running(chassis) as call:
        assert call(client.get, "/").status_code == 200
    with running(build()) as call, pytest.raises(RuntimeError, match="closed"):
        call(client.get, "/")


def test_client_is_found_by_its_unique_name(connect: Connect) -> None:
    """The error about a missing client says how to add it."""
    caller = connect()
    assert clients.http_client(caller.chassis, "prices") is caller.client
    with pytest.raises(ValueError, match="named 'prices' already exists"):
        clients.add_http_client(caller.chassis, "prices", "http://localhost")
    with pytest.raises(LookupError, match="add_http_client"):
        clients.http_client(caller.chassis, "mail")


def test_relative_base_url_is_an_invalid_setting() -> None:
    with pytest.raises(module("chassis.settings").SettingsError, match=r"^HTTP client 'prices': .+ not an absolute"):
        clients.add_http_client(build(), "prices", "prices.example.com")


def test_response_that_a_hook_rejects_fails_the_call_before_it_is_read(connect: Connect, upstream: Upstream) -> None:
    """`docs/http-client.md` limits the size of responses in this way."""

    async def reject_large(response: httpx.Response) -> None:
        if int(response.headers.get("content-length", 0)) > 1000:
            raise httpx.RequestError("the response is too large", request=response.request)

    caller = connect(options={"event_hooks": {"response": [reject_large]}})
    upstream.respond(status(200, b"x", content_length="1000000000"))
    with pytest.raises(errors.UnavailableError) as raised:
        caller.get("/")
    assert str(raised.value.__cause__) == "the response is too large"
    assert len(upstream.received) == 1
    upstream.respond(status(200, b"small"))
    assert caller.get("/").content == b"small"


# -- ids ---------------------------------------------------------------------------------------------------------------


def test_call_carries_the_ids_of_the_current_request(connect: Connect, upstream: Upstream) -> None:
    """A call has the request id and trace id of the request, and a new parent id (W3C Trace Context)."""
    caller = connect()
    context = request_context.RequestContext("rid-1", "a" * 32, "b" * 16, "GET", "/", "127.0.0.1", trace_flags="01")
    token = request_context.bind(context)
    try:
        caller.get("/")
        caller.get("/", headers={"X-Request-ID": "my-own"})
    finally:
        request_context.reset(token)
    first, second = (request.headers for request in upstream.received)
    assert (first["x-request-id"], second["x-request-id"]) == ("rid-1", "my-own")
    parents = [headers["traceparent"].split("-") for headers in (first, second)]
    assert [(version, trace, flags) for version, trace, _, flags in parents] == [("00", "a" * 32, "01")] * 2
    assert len({"b" * 16, *(parent for _, _, parent, _ in parents)}) == 3


def test_call_outside_of_a_request_carries_no_ids(connect: Connect, upstream: Upstream) -> None:
    connect().get("/")
    assert not {"x-request-id", "traceparent"} & upstream.received[0].headers.keys()


def test_handler_passes_the_ids_of_its_client_on(start: Start, upstream: Upstream) -> None:
    chassis: list[Any] = []

    def install(installed: Any) -> None:
        chassis.append(installed)
        clients.add_http_client(installed, "prices", upstream.url)

    client = start({"call": lambda: status_of(clients.http_client(chassis[0], "prices").get("/"))}, install=install)
    trace = "0af7651916cd43dd8448eb211c80319c"
    sent = {"x-request-id": "rid-7", "traceparent": f"00-{trace}-b7ad6b7169203331-01", "tracestate": "vendor=1"}
    assert client.get("/api/here/call", headers=sent).json() == 200
    assert upstream.received[0].headers["x-request-id"] == "rid-7"
    assert upstream.received[0].headers["tracestate"] == "vendor=1"
    assert upstream.received[0].headers["traceparent"].split("-")[1] == trace


def status_of(response: Any) -> Any:
    """Return the status of a response, or a coroutine that returns it."""
    if isinstance(response, httpx.Response):
        return response.status_code

    async def wait() -> int:
        return (await response).status_code  # type: ignore[no-any-return]

    return wait()


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [200, 204, 400, 404, 409, 429, 500, 501])
def test_response_that_is_not_transient_is_returned_without_a_retry(
    connect: Connect, upstream: Upstream, code: int
) -> None:
    upstream.respond(status(code, b""))
    assert connect().get("/").status_code == code
    assert len(upstream.received) == 1


@pytest.mark.parametrize("code", [502, 503, 504])
def test_unavailable_service_is_503_after_three_tries(connect: Connect, upstream: Upstream, code: int) -> None:
    upstream.respond(status(code))
    with pytest.raises(errors.UnavailableError):
        connect().get("/")
    assert len(upstream.received) == 3


def test_service_that_recovers_between_tries_fails_no_call(connect: Connect, upstream: Upstream) -> None:
    """The client replaces a closed connection."""
    upstream.respond(status(503), cut, status(200))
    assert connect().get("/").status_code == 200
    assert len(upstream.received) == 3


def test_refused_connection_is_503(connect: Connect) -> None:
    with pytest.raises(errors.UnavailableError):
        connect(f"http://127.0.0.1:{free_port()}").get("/")


def test_retry_after_beyond_the_deadline_is_passed_on(connect: Connect, upstream: Upstream) -> None:
    """The call is not retried; the caller of this service gets the same `Retry-After`."""
    upstream.respond(status(503, retry_after="77"))
    with pytest.raises(errors.UnavailableError) as raised:
        connect().get("/")
    assert raised.value.headers() == {"retry-after": "77"}
    assert len(upstream.received) == 1


@pytest.mark.parametrize(("again", "calls"), [(None, 1), (True, 3)], ids=["by default", "retry=True"])
@pytest.mark.parametrize("name", ["post", "patch"])
def test_method_that_is_not_idempotent_is_sent_once_unless_retry_is_true(
    connect: Connect, upstream: Upstream, name: str, again: bool | None, calls: int
) -> None:
    upstream.respond(status(503))
    with pytest.raises(errors.UnavailableError):
        getattr(connect(), name)("/", json={}, retry=again)
    assert len(upstream.received) == calls


def test_idempotent_method_with_retry_false_is_sent_once(connect: Connect, upstream: Upstream) -> None:
    upstream.respond(status(503))
    with pytest.raises(errors.UnavailableError):
        connect().get("/", retry=False)
    assert len(upstream.received) == 1


def test_retry_is_logged_with_the_name_of_the_client(connect: Connect, upstream: Upstream, logs: Logs) -> None:
    """The URL is not logged, because it may contain a secret."""
    upstream.respond(status(503), status(200))
    connect().get("/?token=hunter2")
    (entry,) = logs("retry_scheduled")
    assert (entry["operation"], entry["cause"]) == ("GET prices", "HTTPStatusError")
    assert "hunter2" not in str(entry)


# -- timeouts ----------------------------------------------------------------------------------------------------------


def drip(upstream: Upstream, *, head: bool) -> Callable[[BaseHTTPRequestHandler], None]:
    """Send one byte at a time, each within the read timeout, for longer than the whole call may take."""

    def respond(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"X-Slow: " if head else b"Content-Length: 5000\r\n\r\n"))
        for _ in range(2000):
            if upstream.over.wait(0.02):
                break
            request.wfile.write(b"x")
        request.close_connection = True

    return respond


def hang(upstream: Upstream) -> Callable[[BaseHTTPRequestHandler], None]:
    """Send nothing until the test is over."""

    def respond(_request: BaseHTTPRequestHandler) -> None:
        upstream.over.wait(LONG_SECONDS)

    return respond


def assert_late(caller: Caller) -> None:
    """Check that a call fails with a timeout, and in time."""
    began = time.monotonic()
    with pytest.raises(errors.UnavailableError) as raised:
        caller.get("/", retry=False)
    assert isinstance(raised.value.__cause__, httpx.TimeoutException)
    assert time.monotonic() - began < BOUND_SECONDS


def test_silent_service_fails_the_call_after_the_read_timeout(connect: Connect, upstream: Upstream) -> None:
    upstream.respond(hang(upstream))
    assert_late(connect(http_client_read_timeout_seconds=SHORT_SECONDS, http_client_timeout_seconds=LONG_SECONDS))


@pytest.mark.parametrize("head", [True, False], ids=["headers", "body"])
def test_slow_response_fails_the_call_after_its_timeout(connect: Connect, upstream: Upstream, head: bool) -> None:
    """Each read is within the read timeout, so only the timeout of the whole call can end it."""
    upstream.respond(drip(upstream, head=head))
    assert_late(connect(http_client_timeout_seconds=SHORT_SECONDS))


def test_tries_together_end_at_the_deadline(connect: Connect, upstream: Upstream) -> None:
    """The last try gets only the remaining time."""
    upstream.respond(drip(upstream, head=True))
    caller = connect(
        retry_deadline_seconds=SHORT_SECONDS, http_client_timeout_seconds=LONG_SECONDS, retry_attempts=100,
        circuit_failure_threshold=100,
    )  # fmt: skip
    began = time.monotonic()
    with pytest.raises(errors.UnavailableError):
        caller.get("/")
    assert time.monotonic() - began < BOUND_SECONDS


def test_client_works_after_a_timeout(connect: Connect, upstream: Upstream) -> None:
    """The connection of the failed call is not reused."""
    upstream.respond(drip(upstream, head=False), status(200))
    caller = connect(http_client_timeout_seconds=1)  # enough for the good response on a busy machine
    assert_late(caller)
    assert caller.get("/").status_code == 200


# -- the circuit -------------------------------------------------------------------------------------------------------


def test_open_circuit_sends_no_requests(connect: Connect, upstream: Upstream) -> None:
    upstream.respond(status(503))
    caller = connect(circuit_failure_threshold=2)
    for _ in range(5):
        with pytest.raises(errors.UnavailableError):
            caller.get("/")
    assert len(upstream.received) == 2
    assert caller.client.breaker.state == "open"


def test_open_circuit_is_503_and_degrades_health(start: Start, upstream: Upstream) -> None:
    """The response has `Retry-After` and nothing from the other service. Readiness is unaffected."""
    chassis: list[Any] = []

    def install(installed: Any) -> None:
        chassis.append(installed)
        clients.add_http_client(installed, "prices", upstream.url)

    call = {"call": lambda: status_of(clients.http_client(chassis[0], "prices").get("/"))}
    client = start(call, install=install, circuit_failure_threshold=1)
    upstream.respond(status(503, b"the secret of another service"))
    for _ in range(2):
        response = client.get("/api/here/call")
        assert_is_problem(response, 503, "UNAVAILABLE")
        assert "secret" not in response.text
    assert int(response.headers["retry-after"]) > 5
    assert len(upstream.received) == 1
    assert client.get("/health").json()["status"] == "degraded"
    assert client.get("/health/ready").status_code == 200


def test_httpx_errors_of_a_handler_are_translated_as_well(start: Start) -> None:
    """An unreachable service causes 503, an invalid request 500."""

    def refuse() -> None:
        raise httpx.ConnectError("refused by 10.0.0.1")

    def invalid() -> None:
        raise httpx.UnsupportedProtocol("ftp")

    client = start({"refuse": refuse, "invalid": invalid})
    assert_is_problem(client.get("/api/here/refuse"), 503, "UNAVAILABLE")
    assert_is_problem(client.get("/api/here/invalid"), 500, "INTERNAL")


def test_each_dependency_has_its_own_circuit_breaker(start: Start) -> None:
    """The circuit breaker uses the settings of the service."""
    chassis: list[Any] = []
    start(install=chassis.append, circuit_failure_threshold=1)
    prices, mail = (circuit_breaker(chassis[0], name) for name in ("prices", "mail"))
    assert circuit_breaker(chassis[0], "prices") is prices
    fail(prices)
    assert (prices.state, mail.state) == ("open", "closed")


def test_circuit_check_is_a_warning_while_the_circuit_is_open(start: Start) -> None:
    """The service is degraded but still ready."""
    chassis: list[Any] = []
    client = start(install=chassis.append, circuit_failure_threshold=1, health_check_cache_seconds=0)
    breaker = circuit_breaker(chassis[0], "prices")
    report = client.get("/health").json()
    assert report["status"] == "healthy"
    assert report["checks"]["circuit_prices"]["details"] == {"state": "closed", "failures": 0}
    fail(breaker)
    response = client.get("/health")
    found = response.json()["checks"]["circuit_prices"]
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert (found["status"], found["critical"], found["error"]) == ("warning", False, "the circuit is open")
    assert found["details"]["state"] == "open"
    assert 0 < found["details"]["next_trial_in_seconds"] <= 30
    assert client.get("/health/ready").status_code == 200


def fail(breaker: Any) -> None:
    with suppress(errors.UnavailableError), breaker.guard():
        raise errors.UnavailableError


# -- credentials -------------------------------------------------------------------------------------------------------


def test_redirect_is_followed_within_the_service_only(connect: Connect, upstream: Upstream) -> None:
    """A redirect to another host is returned, and no request is sent there."""
    with serving_upstream() as other:
        caller = connect(options={"headers": {"X-API-Key": "hunter2"}})
        upstream.respond(status(307, location="/moved"), status(200))
        assert caller.get("/").status_code == 200
        assert [request.path for request in upstream.received] == ["/", "/moved"]
        upstream.respond(status(302, location=f"{other.url}/stolen"))
        assert caller.get("/").status_code == 302
        assert other.received == []


def test_circular_redirects_end_after_five(connect: Connect, upstream: Upstream) -> None:
    """The last redirect is returned."""
    upstream.respond(status(302, location="/again"))
    assert connect().get("/").status_code == 302
    assert len(upstream.received) == 6


def test_client_rejects_absolute_urls_of_other_services(connect: Connect, upstream: Upstream) -> None:
    """A URL may come from a database, and its host must not receive the credentials of this client."""
    with serving_upstream() as other:
        caller = connect(options={"headers": {"X-API-Key": "hunter2"}})
        with pytest.raises(ValueError, match="only"):
            caller.get(f"{other.url}/stolen")
        assert other.received == []
        assert caller.get(f"{upstream.url}/mine").status_code == 200


def test_cookies_are_not_stored(connect: Connect, upstream: Upstream) -> None:
    """All callers share the client, so a cookie for one of them must not be sent for another."""
    upstream.respond(status(200, set_cookie="session=alice; Path=/"))
    caller = connect()
    caller.get("/")
    caller.get("/")
    assert "cookie" not in upstream.received[1].headers


def test_streamed_body_is_not_retried(connect: Connect, upstream: Upstream) -> None:
    """The first try consumes the body."""
    upstream.respond(status(503))
    with pytest.raises(errors.UnavailableError):
        connect().put("/", files={"prices": b"1"})
    assert len(upstream.received) == 1


# -- the health check of another service -------------------------------------------------------------------------------


def check(url: str, **options: Any) -> Any:
    """Return a check whose timeout a busy machine does not reach."""
    return UpstreamCheck("payments", url, timeout_seconds=PATIENCE_SECONDS, **options)


def test_upstream_check_passes_on_the_expected_status(upstream: Upstream) -> None:
    """The expected status is 200 by default."""
    assert check(upstream.url).probe() == {"status_code": 200}
    upstream.respond(status(204, b""))
    assert check(upstream.url, expected_status=204).probe() == {"status_code": 204}


def test_upstream_check_fails_on_another_status(upstream: Upstream) -> None:
    """The phrase contains both statuses and no host."""
    upstream.respond(status(503))
    with pytest.raises(CheckFailedError, match=r"^responded with 503, expected 200$"):
        check(upstream.url).probe()


def test_upstream_check_of_a_hanging_service_fails_after_its_timeout(upstream: Upstream) -> None:
    upstream.respond(hang(upstream))
    began = time.monotonic()
    with pytest.raises(CheckFailedError, match=r"^no response within 0\.05 s$"):
        UpstreamCheck("payments", upstream.url, timeout_seconds=0.05).probe()
    assert time.monotonic() - began < BOUND_SECONDS


def test_upstream_check_of_an_unreachable_service_shows_no_address() -> None:
    with pytest.raises(CheckFailedError, match=r"^unreachable$"):
        check(f"http://127.0.0.1:{free_port()}/").probe()


def test_upstream_checks_share_one_client_without_cookies(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the certificates for TLS is most of the cost of a client."""
    contexts, create = [], ssl.create_default_context

    def counted(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        contexts.append(1)
        return create(*args, **kwargs)

    monkeypatch.setattr(ssl, "create_default_context", counted)
    upstream.respond(status(200, set_cookie="session=1"))
    for name in ("prices", "mail"):
        for _ in range(3):
            UpstreamCheck(name, upstream.url).probe()
    assert len(contexts) <= 1
    assert all("cookie" not in request.headers for request in upstream.received)


def test_upstream_is_probed_once_for_many_health_requests(start: Start, upstream: Upstream) -> None:
    """Results are cached for longer than those of the service's own dependencies."""
    client = start(
        install=lambda chassis: chassis.health.add(UpstreamCheck("prices", upstream.url)),
        health_check_cache_seconds=0,
    )
    assert [client.get("/health").json()["checks"]["prices"]["status"] for _ in range(5)] == ["ok"] * 5
    assert len(upstream.received) == 1


def test_upstream_check_is_critical_only_if_declared() -> None:
    """By default an outage of another service must not take this one out of the load balancer."""
    assert not UpstreamCheck("payments", "http://localhost/").critical
    assert UpstreamCheck("payments", "http://localhost/", critical=True).critical
