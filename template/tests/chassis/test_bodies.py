"""Request bodies over the wire: a truncated or malformed body never reaches a handler as if it were whole."""

from __future__ import annotations

import json
import selectors
from contextlib import ExitStack

import pytest

from .process import PATIENCE_SECONDS, Process, until

ECHO = b"POST /api/body/echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
LENGTH = ECHO + b"Content-Length: 10\r\n\r\n"
CHUNKED = ECHO + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = LENGTH + b"0123456789"

# Each is sent unchanged, then the client ends its side of the connection.
TRUNCATED = {
    "nothing of a declared length": LENGTH,
    "a part of a declared length": LENGTH + b"hello",
    "one byte less than declared": LENGTH + b"123456789",
    "no chunk": CHUNKED,
    "half a chunk size": CHUNKED + b"1",
    "a chunk size": CHUNKED + b"5\r\n",
    "half a chunk": CHUNKED + b"5\r\nhel",
    "a chunk without its line end": CHUNKED + b"5\r\nhello",
    "half a line end": CHUNKED + b"5\r\nhello\r",
    "a chunk without the last one": CHUNKED + b"5\r\nhello\r\n",
    "half of the last chunk": CHUNKED + b"5\r\nhello\r\n0",
    "the last chunk without its line end": CHUNKED + b"5\r\nhello\r\n0\r\n",
    "half of the last line end": CHUNKED + b"5\r\nhello\r\n0\r\n\r",
    "a trailer without its end": CHUNKED + b"5\r\nhello\r\n0\r\nX-Trailer: a\r\n",
}
MALFORMED = {
    "a chunk size that is not a number": CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n",
    "a negative chunk size": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "a hexadecimal prefix": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "a space before the chunk size": CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n",
    "a chunk size over 64 bits": CHUNKED + b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "a chunk that is longer than its size": CHUNKED + b"3\r\nhello\r\n0\r\n\r\n",
    "a chunk that is shorter than its size": CHUNKED + b"9\r\nhello\r\n0\r\n\r\n",
    "a second chunk that is malformed": CHUNKED + b"5\r\nhello\r\nzz\r\n\r\n",
    "a last chunk that is malformed": CHUNKED + b"5\r\nhello\r\n0;\x00\r\n\r\n",
    "a trailer that is malformed": CHUNKED + b"5\r\nhello\r\n0\r\n\x00: a\r\n\r\n",
    "a bare line feed": CHUNKED + b"5\nhello\n0\n\n",
    "length and chunks": ECHO + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunks and length": ECHO + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunked twice": ECHO + b"Transfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "two Transfer-Encodings": ECHO + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunked before another coding": ECHO + b"Transfer-Encoding: chunked, gzip\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "another coding": ECHO + b"Transfer-Encoding: identity\r\n\r\nhello",
    "a misspelt coding": ECHO + b"Transfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "two lengths": ECHO + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "two lengths that differ": ECHO + b"Content-Length: 5\r\nContent-Length: 3\r\n\r\nhello",
    "two lengths in one line": ECHO + b"Content-Length: 5, 5\r\n\r\nhello",
    "a negative length": ECHO + b"Content-Length: -5\r\n\r\nhello",
    "a length with a sign": ECHO + b"Content-Length: +5\r\n\r\nhello",
    "a length that is not a number": ECHO + b"Content-Length: 5e0\r\n\r\nhello",
}


@pytest.mark.parametrize("raw", [*TRUNCATED.values(), *MALFORMED.values()], ids=[*TRUNCATED, *MALFORMED])
def test_truncated_or_malformed_body_never_reaches_the_handler(running: Process, raw: bytes) -> None:
    """The response is 400, or the connection is closed without one."""
    handled = len(running.events("body_handled"))
    response = running.exchange(raw, half_close=True)
    assert response == b"" or response.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413")), response
    # A later request is in the log, so an earlier one that reached its handler would be there too.
    running.exchange(WHOLE)
    until(lambda: len(running.events("body_handled")) > handled)
    assert [entry["size"] for entry in running.events("body_handled")[handled:]] == [10]


@pytest.mark.parametrize("raw", [
    WHOLE,
    CHUNKED + b"a\r\n0123456789\r\n0\r\n\r\n",
    CHUNKED + b"5;name=value\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
    CHUNKED + b"A\r\n0123456789\r\n0\r\nX-Trailer: a\r\n\r\n",
], ids=["declared", "chunked", "with an extension", "with a trailer"])  # fmt: skip
def test_whole_body_reaches_the_handler(running: Process, raw: bytes) -> None:
    """A complete body reaches the handler, whether it is chunked or has a Content-Length."""
    response = running.exchange(raw)
    assert response.startswith(b"HTTP/1.1 200")
    assert b'"size":10' in response.replace(b" ", b"")


def test_chunked_body_over_the_limit_is_413_before_it_is_complete(running: Process) -> None:
    """The limit of 1,000,000 bytes also holds if no length was declared."""
    handled = len(running.events("body_handled"))
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    response = running.exchange(CHUNKED + chunk * 100)
    assert response.startswith(b"HTTP/1.1 413")
    assert b"PAYLOAD_TOO_LARGE" in response
    assert len(running.events("body_handled")) == handled


def test_trailers_of_a_body_are_not_headers(running: Process) -> None:
    """A trailer must not change the request id (RFC 9110, 6.5.1)."""
    response = running.exchange(CHUNKED + b"1\r\na\r\n0\r\nX-Request-ID: trailer-1\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 200")
    assert b"trailer-1" not in response


def test_client_that_waits_for_100_continue_may_send_its_body(running: Process) -> None:
    """A client that sends `Expect: 100-continue` is told to send its body (RFC 9110, 10.1.1)."""
    with running.connect() as connection:
        connection.sendall(LENGTH.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(b"0123456789")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")


def test_health_responds_between_hostile_bodies_that_arrive_at_once(running: Process) -> None:
    """Each of eight bodies has a fault every few bytes, which takes long to validate."""
    body = json.dumps({f"{number:x}": 0 for number in range(10_000)}).encode()
    head = b"POST /api/things HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    finished: list[object] = []
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        *hostile, probe = [stack.enter_context(running.connect()) for _ in range(9)]
        for connection in hostile:
            connection.sendall(request[:-1])
            selector.register(connection, selectors.EVENT_READ)
        selector.register(probe, selectors.EVENT_READ)
        for connection in hostile:
            connection.sendall(request[-1:])
        probe.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while len(finished) < 9:
            for key, _ in selector.select(PATIENCE_SECONDS):
                selector.unregister(key.fileobj)
                finished.append(key.fileobj)
        assert finished.index(probe) < 6
        assert {connection.recv(12)[9:] for connection in hostile} == {b"422"}
