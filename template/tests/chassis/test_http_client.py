"""The client for calling out, against a real service on a socket that answers well, badly, late, or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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
from .test_errors import assert_is_problem
from .upstream import Upstream, cut, serving_upstream, status

errors = module("chassis.errors")
request_context = module("chassis.request_context")
FEATURES = [module("chassis.logging"), module("chassis.resilience")]

# Short, so that no test takes long; and so much longer than a good answer takes that a busy machine does not matter.
SHORT_SECONDS = 0.3
# What is not to be the limit, and what a busy machine adds to the one that is.
LONG_SECONDS, BOUND_SECONDS = 60, 20


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    """stamina's own test mode: as many tries as ever, and nothing between them."""
    with stamina.set_testing(True, attempts=1000, cap=True):
        yield


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with serving_upstream() as serving:
        yield serving


class Caller:
    """A client in a running service; the methods are the client's, called where the service would call them."""

    def __init__(self, client: Any, call: Callable[..., Any], service: Any) -> None:
        self.client, self.service, self._call = client, service, call

    def __getattr__(self, name: str) -> Callable[..., httpx.Response]:
        return lambda *args, **kwargs: self._call(partial(getattr(self.client, name), *args, **kwargs))


Connect = Callable[..., Caller]


@pytest.fixture
def connect(upstream: Upstream) -> Iterator[Connect]:
    """Start a service with a client of the upstream, or of another `base_url`; everything else is a setting."""
    with ExitStack() as stack:

        def open_one(base_url: str | None = None, options: dict[str, Any] | None = None, **settings: Any) -> Caller:
            service = module("chassis.service").build(settings_for_tests(**settings), FEATURES)
            client = clients.add_http_client(service, "prices", base_url or upstream.url, **options or {})
            return Caller(client, stack.enter_context(running(service)), service)

        yield open_one


def methods(upstream: Upstream) -> list[str]:
    return [request.method for request in upstream.received]


# -- a good call -------------------------------------------------------------------------------------------------------


def test_an_answer_comes_back(connect: Connect, upstream: Upstream) -> None:
    """With its status, its body and what was sent for it."""
    upstream.answer(status(201, b'{"price": 3}'))
    answer = connect().post("/prices", json={"name": "tea"}, params={"day": "today"})
    assert (answer.status_code, answer.json()) == (201, {"price": 3})
    (request,) = upstream.received
    assert (request.method, request.path, request.body) == ("POST", "/prices?day=today", b'{"name":"tea"}')


def test_every_method_has_its_name(connect: Connect, upstream: Upstream) -> None:
    """Those of every day; `request` is there for the others."""
    caller = connect()
    for name in ("get", "post", "put", "patch", "delete"):
        assert getattr(caller, name)("/prices").status_code == 200
    assert caller.request("PUT", "/prices").status_code == 200
    assert methods(upstream) == ["GET", "POST", "PUT", "PATCH", "DELETE", "PUT"]


def test_connections_are_kept(connect: Connect, upstream: Upstream) -> None:
    """One call after the other over the same connection."""
    caller = connect()
    for _ in range(5):
        caller.get("/")
    assert len({request.connection for request in upstream.received}) == 1


def test_the_client_is_closed_when_the_service_stops(upstream: Upstream) -> None:
    """And can then no longer be used."""
    service = module("chassis.service").build(settings_for_tests(), FEATURES)
    client = clients.add_http_client(service, "prices", upstream.url)
    with running(service) as call:
        call(client.get, "/")
        assert not client._client.is_closed
    assert client._client.is_closed


def test_a_client_is_found_by_its_name(connect: Connect) -> None:
    """There is one of each name, and a missing one says how to add it."""
    caller = connect()
    assert clients.http_client(caller.service, "prices") is caller.client
    with pytest.raises(ValueError, match="'prices' is "):
        clients.add_http_client(caller.service, "prices", "http://localhost")
    with pytest.raises(LookupError, match="add_http_client"):
        clients.http_client(caller.service, "mail")


def test_a_base_url_is_a_whole_one() -> None:
    """Told when the service is made, not when it calls."""
    service = module("chassis.service").build(settings_for_tests(), FEATURES)
    with pytest.raises(ValueError, match="no base URL"):
        clients.add_http_client(service, "prices", "prices.example.com")


# -- ids ---------------------------------------------------------------------------------------------------------------


def test_a_call_carries_the_ids_of_the_request(connect: Connect, upstream: Upstream) -> None:
    """The same request id and trace id, and a parent id of its own in each call (W3C Trace Context)."""
    caller = connect()
    context = request_context.RequestContext("rid-1", "a" * 32, "b" * 16, "GET", "/", "127.0.0.1", trace_flags="01")
    token = request_context.enter(context)
    try:
        caller.get("/")
        caller.get("/", headers={"X-Request-ID": "my-own"})
    finally:
        request_context.leave(token)
    first, second = (request.headers for request in upstream.received)
    assert (first["x-request-id"], second["x-request-id"]) == ("rid-1", "my-own")
    parents = [headers["traceparent"].split("-") for headers in (first, second)]
    assert [(version, trace, flags) for version, trace, _, flags in parents] == [("00", "a" * 32, "01")] * 2
    assert len({"b" * 16, *(parent for _, _, parent, _ in parents)}) == 3


def test_a_call_outside_of_a_request_carries_none(connect: Connect, upstream: Upstream) -> None:
    """A command, a start."""
    connect().get("/")
    assert not {"x-request-id", "traceparent"} & upstream.received[0].headers.keys()


def test_a_handler_passes_its_ids_on(start: Start, upstream: Upstream) -> None:
    """From the client's header to the other service's log, through a whole request."""
    services: list[Any] = []

    def install(service: Any) -> None:
        services.append(service)
        clients.add_http_client(service, "prices", upstream.url)

    client = start({"ask": lambda: status_of(clients.http_client(services[0], "prices").get("/"))}, install=install)
    trace = "0af7651916cd43dd8448eb211c80319c"
    sent = {"x-request-id": "rid-7", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    assert client.get("/api/here/ask", headers=sent).json() == 200
    assert upstream.received[0].headers["x-request-id"] == "rid-7"
    assert upstream.received[0].headers["traceparent"].split("-")[1] == trace


def status_of(answer: Any) -> Any:
    """Return the status of an answer, or what gives it once it is awaited."""
    if isinstance(answer, httpx.Response):
        return answer.status_code

    async def later() -> int:
        return (await answer).status_code  # type: ignore[no-any-return]

    return later()


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [200, 204, 400, 404, 409, 429, 500, 501])
def test_an_answer_that_is_the_services_own_is_returned(connect: Connect, upstream: Upstream, code: int) -> None:
    """What it means is for the caller to say; it is not asked for again."""
    upstream.answer(status(code, b""))
    assert connect().get("/").status_code == code
    assert len(upstream.received) == 1


@pytest.mark.parametrize("code", [502, 503, 504])
def test_a_service_that_is_away_is_503_here(connect: Connect, upstream: Upstream, code: int) -> None:
    """After three tries."""
    upstream.answer(status(code))
    with pytest.raises(errors.UnavailableError):
        connect().get("/")
    assert len(upstream.received) == 3


def test_a_service_that_comes_back_is_not_noticed(connect: Connect, upstream: Upstream) -> None:
    """Its answer is returned; a connection that was cut is opened again."""
    upstream.answer(status(503), cut, status(200))
    assert connect().get("/").status_code == 200
    assert len(upstream.received) == 3


def test_nothing_at_the_address_is_503(connect: Connect) -> None:
    """Refused is away."""
    with pytest.raises(errors.UnavailableError):
        connect(f"http://127.0.0.1:{free_port()}").get("/")


def test_the_time_that_is_asked_for_is_passed_on(connect: Connect, upstream: Upstream) -> None:
    """A pause beyond the deadline is not waited for: the caller of this service is told instead."""
    upstream.answer(status(503, retry_after="77"))
    with pytest.raises(errors.UnavailableError) as raised:
        connect().get("/")
    assert raised.value.headers() == {"retry-after": "77"}
    assert len(upstream.received) == 1


@pytest.mark.parametrize(("again", "calls"), [(None, 1), (True, 3)], ids=["as it is", "told to"])
@pytest.mark.parametrize("name", ["post", "patch"])
def test_what_is_not_idempotent_is_sent_once(
    connect: Connect, upstream: Upstream, name: str, again: bool | None, calls: int
) -> None:
    """Unless the call says that it may run twice."""
    upstream.answer(status(503))
    with pytest.raises(errors.UnavailableError):
        getattr(connect(), name)("/", json={}, retry=again)
    assert len(upstream.received) == calls


def test_an_idempotent_call_can_be_kept_from_it(connect: Connect, upstream: Upstream) -> None:
    """For a GET with an effect."""
    upstream.answer(status(503))
    with pytest.raises(errors.UnavailableError):
        connect().get("/", retry=False)
    assert len(upstream.received) == 1


def test_a_new_try_is_logged_with_the_name_of_the_client(connect: Connect, upstream: Upstream, logs: Logs) -> None:
    """And without its URL, which may hold a secret."""
    upstream.answer(status(503), status(200))
    connect().get("/?token=hunter2")
    (line,) = logs("retry_scheduled")
    assert (line["operation"], line["cause"]) == ("GET prices", "HTTPStatusError")
    assert "hunter2" not in str(line)


# -- time-outs ---------------------------------------------------------------------------------------------------------


def drip(upstream: Upstream, *, head: bool) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer a byte at a time, each of them in good time, and come to no end that a caller should live to see."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"X-Slow: " if head else b"Content-Length: 5000\r\n\r\n"))
        for _ in range(2000):
            if upstream.over.wait(0.02):
                break
            request.wfile.write(b"x")
        request.close_connection = True

    return answer


def assert_late(caller: Caller) -> None:
    """Check that a call fails in the time it has; a fault would hang it, or cost the standard time-outs."""
    began = time.monotonic()
    with pytest.raises(errors.UnavailableError) as raised:
        caller.get("/", retry=False)
    assert isinstance(raised.value.__cause__, httpx.TimeoutException)
    assert time.monotonic() - began < BOUND_SECONDS


def test_a_service_that_says_nothing_is_left(connect: Connect, upstream: Upstream) -> None:
    """After the time-out of a read."""
    upstream.answer(lambda _request: upstream.over.wait(LONG_SECONDS) and None)
    assert_late(connect(http_client_read_timeout_seconds=SHORT_SECONDS, http_client_timeout_seconds=LONG_SECONDS))


@pytest.mark.parametrize("head", [True, False], ids=["its head", "its body"])
def test_a_service_that_never_ends_is_left(connect: Connect, upstream: Upstream, head: bool) -> None:
    """After the time-out of the whole call: every single read was in time."""
    upstream.answer(drip(upstream, head=head))
    assert_late(connect(http_client_timeout_seconds=SHORT_SECONDS))


def test_all_tries_together_have_a_deadline(connect: Connect, upstream: Upstream) -> None:
    """A try that begins late gets no more than is left."""
    upstream.answer(drip(upstream, head=True))
    caller = connect(
        retry_deadline_seconds=SHORT_SECONDS, http_client_timeout_seconds=LONG_SECONDS, retry_attempts=100,
        circuit_failure_threshold=100,
    )  # fmt: skip
    began = time.monotonic()
    with pytest.raises(errors.UnavailableError):
        caller.get("/")
    assert time.monotonic() - began < BOUND_SECONDS


def test_a_client_is_whole_after_a_call_that_was_late(connect: Connect, upstream: Upstream) -> None:
    """The broken connection is not used again."""
    upstream.answer(drip(upstream, head=False), status(200))
    caller = connect(http_client_timeout_seconds=1)  # three times, for the one that is good
    assert_late(caller)
    assert caller.get("/").status_code == 200


# -- the circuit -------------------------------------------------------------------------------------------------------


def test_a_service_that_stays_away_is_left_alone(connect: Connect, upstream: Upstream) -> None:
    """Once the circuit is open nothing is sent, and there is nothing to try again."""
    upstream.answer(status(503))
    caller = connect(circuit_failure_threshold=2)
    for _ in range(5):
        with pytest.raises(errors.UnavailableError):
            caller.get("/")
    assert len(upstream.received) == 2
    assert caller.client.breaker.state == "open"


def test_the_callers_answer_is_503(start: Start, upstream: Upstream) -> None:
    """In the form of every other error, at once, with `Retry-After`; health is degraded, and ready."""
    services: list[Any] = []

    def install(service: Any) -> None:
        services.append(service)
        clients.add_http_client(service, "prices", upstream.url)

    ask = {"ask": lambda: status_of(clients.http_client(services[0], "prices").get("/"))}
    client = start(ask, install=install, circuit_failure_threshold=1)
    upstream.answer(status(503, b"the secret of another service"))
    for _ in range(2):
        answer = client.get("/api/here/ask")
        assert_is_problem(answer, 503, "UNAVAILABLE")
        assert "secret" not in answer.text
    assert int(answer.headers["retry-after"]) > 5
    assert len(upstream.received) == 1
    assert client.get("/health").json()["status"] == "degraded"
    assert client.get("/health/ready").status_code == 200


def test_what_httpx_raises_elsewhere_means_the_same(start: Start) -> None:
    """A handler that uses httpx itself answers 503 too, and 500 for its own fault."""

    def refuse() -> None:
        raise httpx.ConnectError("refused by 10.0.0.1")

    def own_fault() -> None:
        raise httpx.UnsupportedProtocol("ftp")

    client = start({"refuse": refuse, "own_fault": own_fault})
    assert_is_problem(client.get("/api/here/refuse"), 503, "UNAVAILABLE")
    assert_is_problem(client.get("/api/here/own_fault"), 500, "INTERNAL")


# -- credentials -------------------------------------------------------------------------------------------------------


def test_redirects_stay_within_the_service(connect: Connect, upstream: Upstream) -> None:
    """Within it they are followed; one to another host is returned, and nothing goes there."""
    with serving_upstream() as other:
        caller = connect(options={"headers": {"X-API-Key": "hunter2"}})
        upstream.answer(status(307, location="/moved"), status(200))
        assert caller.get("/").status_code == 200
        assert [request.path for request in upstream.received] == ["/", "/moved"]
        upstream.answer(status(302, location=f"{other.url}/stolen"))
        assert caller.get("/").status_code == 302
        assert other.received == []


def test_redirects_in_a_circle_end(connect: Connect, upstream: Upstream) -> None:
    """With the last of them as the answer."""
    upstream.answer(status(302, location="/again"))
    assert connect().get("/").status_code == 302
    assert len(upstream.received) == 6


def test_a_client_calls_its_own_service_only(connect: Connect, upstream: Upstream) -> None:
    """A whole URL, from a database perhaps, must not carry its credentials elsewhere."""
    with serving_upstream() as other:
        caller = connect(options={"headers": {"X-API-Key": "hunter2"}})
        with pytest.raises(ValueError, match="nothing else"):
            caller.get(f"{other.url}/stolen")
        assert other.received == []
        assert caller.get(f"{upstream.url}/mine").status_code == 200


def test_cookies_are_not_kept(connect: Connect, upstream: Upstream) -> None:
    """What one caller is given must not be sent for the next one."""
    upstream.answer(status(200, set_cookie="session=alice; Path=/"))
    caller = connect()
    caller.get("/")
    caller.get("/")
    assert "cookie" not in upstream.received[1].headers


def test_a_body_that_is_used_up_is_not_sent_again(connect: Connect, upstream: Upstream) -> None:
    """The second try would send nothing, and call it a success."""
    upstream.answer(status(503))
    with pytest.raises(errors.UnavailableError):
        connect().put("/", files={"prices": b"1"})
    assert len(upstream.received) == 1
