"""Connections: limits on request heads, on silent and slow clients, and on the number of connections."""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from ..package import module
from .conftest import FAULTS, MAX_CONNECTIONS
from .process import PATIENCE_SECONDS, Process, read_all, read_response, serving, until

START_LINE = b"GET /api/things/7 HTTP/1.1\r\nHost: localhost\r\n"
REQUEST = START_LINE + b"Connection: close\r\n\r\n"
KEPT = START_LINE + b"\r\n"
CHUNKED = b"POST /api/body/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
# HTTP/2: the connection preface, an empty SETTINGS frame, the HEADERS of `POST /`, and then DATA (RFC 9113, 3.4 and 6).
HTTP2_START = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
HTTP2_REQUEST = HTTP2_START + bytes.fromhex("000003010400000001838684")
HTTP2_DATA = bytes.fromhex("003ff7000000000001") + b"a" * 16_375
STREAM = b"GET /api/stream/endless HTTP/1.1\r\nHost: localhost\r\n\r\n"
# Many times the limit of 64 KiB, so that the memory of a service that stores these bytes would grow visibly.
ENDLESS_BYTES = 100_000_000
MEMORY_BYTES = 30_000_000
FEW_CONNECTIONS = 5
# More than the kernel buffers for a connection.
LARGE_BYTES = 12_000_000
LARGE = b"GET /api/large/%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % LARGE_BYTES


def status_of(response: bytes) -> int | None:
    """Return the status of a raw response, or None if the connection was closed without one."""
    return int(response[9:12]) if response.startswith(b"HTTP/1.1 ") else None


def send_endlessly(process: Process, first: bytes, repeated: bytes) -> bytes:
    """Send `repeated` again and again until the service responds or closes; return its response."""
    with process.connect() as connection:
        sent = 0
        try:
            connection.sendall(first)
            if first.startswith(KEPT):
                read_response(connection)
            while sent < ENDLESS_BYTES and not select.select([connection], [], [], 0)[0]:
                sent += connection.send(repeated * (65_536 // len(repeated)))
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the service has closed the connection
        return read_all(connection)


# -- responses ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the packets of a connection")
def test_small_response_is_one_packet(running: Process) -> None:
    """Head and body arrive together. `tcpi_data_segs_in` in the kernel's tcp_info counts received packets with data."""
    with running.connect() as connection:
        connection.sendall(KEPT)
        read_response(connection)
        (packets,) = struct.unpack_from("I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), 152)
    assert packets == 1


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (KEPT, b"200"),
        (KEPT.replace(b"GET", b"HEAD"), b"200"),
        (KEPT.replace(b"things/7", b"things/framed/by-us"), b"200"),
        (KEPT.replace(b"things/7", b"large/200000"), b"200"),
        (KEPT.replace(b"api/things/7", b"nowhere"), b"404"),
        (START_LINE + b"X-Long: " + b"a" * 70_000, b"431"),
        (CHUNKED.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n"), b"200"),
    ],
    ids=["get", "head", "own-header", "large", "error", "rejected-head", "continue"],
)
def test_every_response_has_each_security_header_once(running: Process, request_head: bytes, status: bytes) -> None:
    with running.connect() as connection:
        connection.sendall(request_head)
        received = b""
        while b"\r\n\r\n" not in received.partition(b"HTTP/1.1 " + status)[2] and (part := connection.recv(65_536)):
            received += part
    head = received.partition(b"HTTP/1.1 " + status)[2].partition(b"\r\n\r\n")[0].decode()
    names = [line.partition(":")[0] for line in head.split("\r\n")[1:]]
    assert sorted(set(names)) == sorted(names)
    assert module("chassis.web.headers").HEADERS.keys() <= set(names)


def test_handshake_behind_an_unfinished_request_is_served_as_a_request(running: Process) -> None:
    """Otherwise the two responses would mix, and the first one would lose its security headers."""
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    handshake = START_LINE + upgrade + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    with running.connect() as connection:
        connection.sendall(KEPT + handshake)
        received = b""
        while received.count(b'"thing_id"') < 2 and (part := connection.recv(65_536)):
            received += part
    assert received.count(b"HTTP/1.1 200 OK") == received.lower().count(b"\r\nx-frame-options: ") == 2


# -- request heads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [
    START_LINE + b"X-Long: " + b"a" * 70_000 + b"\r\n\r\n",
    START_LINE + b"X-Many: a\r\n" * 7000 + b"\r\n",
    b"GET /api/things/7?x=" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    START_LINE + b"X-Long: " + b"a" * 70_000,
    b"GET /" + b"a" * 70_000,
], ids=["long header", "many headers", "long query", "incomplete header", "incomplete path"])  # fmt: skip
def test_request_head_over_the_limit_is_431(running: Process, head: bytes) -> None:
    """The response is a problem body with all headers, whether the head is complete or not. The request is logged."""
    response = running.exchange(head)
    assert status_of(response) == 431
    headers, _, body = response.partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert problem["error_code"] == "HEADERS_TOO_LARGE"
    assert b"x-content-type-options: nosniff" in headers
    assert b"connection: close" in headers
    assert running.finished(problem["request_id"])["http.response.status_code"] == 431


def test_request_head_below_the_limit_is_served(running: Process) -> None:
    """A head of 60,000 bytes is served, also after another request on the same connection."""
    head = START_LINE + b"X-Long: " + b"a" * 60_000 + b"\r\nConnection: close\r\n\r\n"
    assert status_of(running.exchange(head)) == 200
    assert running.exchange(KEPT + head).count(b"HTTP/1.1 200") == 2


def test_request_head_limit_counts_each_request_of_a_connection(running: Process) -> None:
    """Several heads of 40,000 bytes are served, although together they exceed the limit."""
    head = START_LINE + b"X-Long: " + b"a" * 40_000 + b"\r\n\r\n"
    with running.connect() as connection:
        for _ in range(3):
            connection.sendall(head)
            assert read_response(connection).startswith(b"HTTP/1.1 200")


ENDLESS = {
    "header lines": (START_LINE, b"X-Many: a\r\n", {431}),
    "one header": (START_LINE + b"X-Long: ", b"a", {431}),
    "path": (b"GET /", b"a", {431}),
    "header lines after a request": (KEPT + START_LINE, b"X-Many: a\r\n", {431}),
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\n", b"X-Many: a\r\n", {400, None}),
    "one trailer": (CHUNKED + b"1\r\na\r\n0\r\nX-Long: ", b"a", {400, None}),
    "chunk extension": (CHUNKED + b"1;", b"a", {400, None}),
    "chunk size": (CHUNKED, b"0", {400, None}),
    "body of HTTP/2": (HTTP2_REQUEST, HTTP2_DATA, {400, None}),
    "empty lines": (b"", b"\r\n", {400, 431, None}),
}


@pytest.mark.parametrize(("first", "repeated", "statuses"), ENDLESS.values(), ids=ENDLESS.keys())
def test_endless_request_head_or_trailer_is_rejected_in_bounded_memory(
    running: Process, first: bytes, repeated: bytes, statuses: set[int | None]
) -> None:
    """The body before endless trailers never reaches the handler."""
    handled, before = len(running.events("body_handled")), running.memory_bytes
    response = send_endlessly(running, first, repeated)
    assert status_of(response) in statuses
    assert response.startswith(b"HTTP/1.1 ") or not response  # a server with HTTP/2 would send a SETTINGS frame
    assert running.memory_bytes - before < MEMORY_BYTES
    assert status_of(running.exchange(REQUEST)) == 200
    assert len(running.events("body_handled")) == handled


# -- the number of connections -----------------------------------------------------------------------------------------


def test_connections_over_the_limit_close_the_longest_idle_one(running: Process) -> None:
    """Probes still connect, however many connections are open. The youngest connections stay open."""
    with ExitStack() as stack:

        def kept() -> socket.socket:
            connection = stack.enter_context(running.connect())
            connection.sendall(KEPT)
            assert read_response(connection).startswith(b"HTTP/1.1 200")
            return connection

        connections = [kept() for _ in range(MAX_CONNECTIONS)]
        assert running.get("/health/live").status_code == 200
        assert read_all(connections[0]) == b""
        connections[-1].sendall(REQUEST)
        assert read_all(connections[-1]).startswith(b"HTTP/1.1 200")


def test_silent_connections_over_the_limit_do_not_shut_out_probes(running: Process) -> None:
    """A connection that sends nothing, or only a part of a head, counts as idle."""
    with ExitStack() as stack:
        for number in range(2 * MAX_CONNECTIONS):
            connection = stack.enter_context(running.connect())
            if number % 2:
                connection.sendall(START_LINE)
        assert running.get("/health/live").status_code == 200


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Return a process that accepts few connections; the tests share it."""
    limits = {"MAX_CONNECTIONS": str(FEW_CONNECTIONS), "RESPONSE_IDLE_TIMEOUT_SECONDS": "600"}
    with serving(tmp_path_factory.mktemp("narrow"), *FAULTS, **limits, REQUEST_TIMEOUT_SECONDS="600") as process:
        yield process


def begin_reading(connection: socket.socket) -> int:
    """Request a large response and read its beginning; return how much of the body is still to be read."""
    connection.sendall(LARGE)
    head, end, body = b"", b"", b""
    while not body:
        head, end, body = (head + end + connection.recv(1024)).partition(b"\r\n\r\n")
    return LARGE_BYTES - len(body)


def read_body(connection: socket.socket, length: int) -> int:
    """Read up to `length` bytes; return how many of them did not arrive."""
    while length and (part := connection.recv(min(length, 1_000_000))):
        length -= len(part)
    return length


def test_connections_that_do_not_read_their_responses_do_not_shut_out_probes(narrow: Process) -> None:
    """Each probe closes one of them."""
    with ExitStack() as stack:
        for _ in range(FEW_CONNECTIONS):
            begin_reading(stack.enter_context(narrow.connect(receive_buffer_bytes=4096)))
        for _ in range(3):
            assert narrow.get("/health/live").status_code == 200


def test_connections_that_do_not_send_their_bodies_do_not_shut_out_probes(narrow: Process) -> None:
    """Each probe closes one of them."""
    with ExitStack() as stack:
        for _ in range(FEW_CONNECTIONS):
            stack.enter_context(narrow.connect()).sendall(CHUNKED + b"5\r\nhel")
        for _ in range(3):
            assert narrow.get("/health/live").status_code == 200


def test_connection_whose_response_is_being_read_is_not_closed_for_another_one(narrow: Process) -> None:
    """Connections without a request are closed instead, although they are younger."""
    with ExitStack() as stack:
        reader = stack.enter_context(narrow.connect(receive_buffer_bytes=4096))
        unread = begin_reading(reader)
        for _ in range(2 * FEW_CONNECTIONS):
            stack.enter_context(narrow.connect())
        assert narrow.get("/health/live").status_code == 200
        assert read_body(reader, unread) == 0


# -- silent and slow clients -------------------------------------------------------------------------------------------

THREADS = 2
# Whatever the size of the kernel's buffers, one of these responses fits into them except for a small rest.
SIZES = range(2_400_000, 2_900_000, 50_000)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Return a process with short timeouts; the tests share it."""
    timeouts = {"REQUEST_HEAD_TIMEOUT_SECONDS": "1", "RESPONSE_IDLE_TIMEOUT_SECONDS": "1", "SERVER_THREADS": "2"}
    with serving(tmp_path_factory.mktemp("impatient"), *FAULTS, **timeouts) as process:
        yield process


def read_head_of_stream(connection: socket.socket) -> None:
    connection.sendall(STREAM)
    assert connection.recv(1024).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET", START_LINE, KEPT + b"GET"], ids=[
    "nothing", "empty line", "half a request line", "half a head", "half a second head",
])  # fmt: skip
def test_connection_without_a_complete_head_is_closed_after_the_head_timeout(impatient: Process, sent: bytes) -> None:
    """Probes are answered meanwhile. The keep-alive timeout, 75 s, is not what closes the connection."""
    with ExitStack() as opened:
        connections = []
        for _ in range(20):
            connections.append(opened.enter_context(impatient.connect()))
            connections[-1].sendall(sent)
            if sent.startswith(KEPT):
                read_response(connections[-1])
        assert impatient.get("/health/live").status_code == 200
        assert [read_all(connection) for connection in connections] == [b""] * 20


def test_connection_that_drips_header_lines_is_closed_after_the_head_timeout(impatient: Process) -> None:
    """A new header line does not extend the timeout."""
    with impatient.connect() as connection:
        connection.sendall(START_LINE)

        def is_closed() -> bool:
            try:
                connection.send(b"X: y\r\n")
            except (BrokenPipeError, ConnectionResetError):
                return True
            return False

        until(is_closed, PATIENCE_SECONDS)


def test_stream_whose_client_stops_reading_is_closed_and_frees_its_thread(impatient: Process) -> None:
    """With more such clients than threads, all threads serve requests again afterwards."""

    def closed() -> int:
        return sum(entry["connections"] for entry in impatient.events("slow_readers_closed"))

    before = closed()
    connections = [impatient.connect(receive_buffer_bytes=4096) for _ in range(THREADS)]
    for connection in connections:
        read_head_of_stream(connection)
    assert impatient.get("/health/live").status_code == 200
    until(lambda: closed() >= before + THREADS)  # one that is still open would stream without end
    until(lambda: impatient.get("/api/thread/nap").status_code == 200)
    for connection in connections:
        assert not read_all(connection).endswith(b"0\r\n\r\n")
        connection.close()


def test_stream_is_produced_no_further_than_its_client_reads(impatient: Process) -> None:
    """If a client stops reading, only as much is produced as fits into the buffers of the connection."""
    before = len(impatient.events("slow_readers_closed"))
    produced = impatient.get("/api/here/produced").json()
    with impatient.connect(receive_buffer_bytes=4096) as connection:
        read_head_of_stream(connection)
        until(lambda: len(impatient.events("slow_readers_closed")) > before)
    # The kernel buffers up to about 4 MB for each connection.
    assert impatient.get("/api/here/produced").json() - produced < 20_000_000


def test_stream_continues_while_its_client_reads(impatient: Process) -> None:
    """The client receives many times what fits into the buffers."""
    with impatient.connect() as connection:
        read_head_of_stream(connection)
        received = 0
        while received < 50_000_000:
            part = connection.recv(1_000_000)
            assert part
            received += len(part)


def test_response_that_its_client_reads_slowly_is_sent_as_a_whole(impatient: Process) -> None:
    """A client that always continues to read may take longer than the timeout of 1 s."""
    with impatient.connect(receive_buffer_bytes=65_536) as connection:
        unread = begin_reading(connection)
        until_seconds = time.monotonic() + 3
        while time.monotonic() < until_seconds and unread > 1_000_000:
            unread -= len(connection.recv(50_000))
            time.sleep(0.01)
        assert read_body(connection, unread) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much of a kernel buffer is sent")
def test_unread_bytes_include_those_in_the_buffer_of_the_kernel() -> None:
    """A client that reads slowly counts as reading, although the kernel does not yet take more."""
    unread_bytes = module("chassis.server.connections")._unread_bytes
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        with server:
            server.setblocking(False)
            transport = Mock(**{"get_write_buffer_size.return_value": 7, "get_extra_info.return_value": server})
            assert unread_bytes(transport) == 7
            sent = server.send(bytes(1_000_000))
            assert 7 < unread_bytes(transport) <= 7 + sent
            assert read_body(client, sent) == 0
            until(lambda: unread_bytes(transport) == 7)


def test_connection_whose_body_came_after_its_response_is_kept(impatient: Process) -> None:
    """The head timeout ends with the body. Then the keep-alive timeout of 75 s applies."""
    with impatient.connect() as connection:
        # The host is rejected as soon as the service has the request headers.
        connection.sendall(b"POST /api/body/echo HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 10\r\n\r\nhello")
        assert status_of(read_response(connection)) == 400
        connection.sendall(b"world")
        with impatient.connect() as silent:  # its head timeout ends later than that of the other connection
            assert read_all(silent) == b""
        connection.sendall(REQUEST)
        assert status_of(read_all(connection)) == 200


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux lists its connections in /proc")
@pytest.mark.parametrize("size", SIZES)
def test_response_whose_client_never_reads_it_does_not_keep_its_connection(impatient: Process, size: int) -> None:
    """This also holds if the whole response waits in the buffers of the service."""
    with ExitStack() as stack:
        for _ in range(3):
            connection = stack.enter_context(impatient.connect(receive_buffer_bytes=4096))
            path = b"GET /api/large/%d HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % size
            connection.sendall(path)
        until(lambda: connections_of(impatient) <= 1)


def connections_of(process: Process) -> int:
    """Return the number of connections that the process has not closed."""
    port = f":{process.port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return sum(row[1].endswith(port) and row[3] == "01" for row in rows)


def test_query_of_a_websocket_is_not_logged(running: Process) -> None:
    """It may hold a token, because browsers cannot send headers with a handshake."""
    handshake = (
        b"GET /socket?token=hunter4 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    assert status_of(running.exchange(handshake)) == 404
    until(lambda: any(entry["url.path"] == "/socket" for entry in running.events("request_finished")))
    assert "hunter4" not in str(running.lines)


# -- what is not HTTP --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"BREW / HTTP/1.1\r\n\r\n", b"\x16\x03\x01 hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_bytes_that_are_not_http_get_a_bare_400_or_no_response(running: Process, raw: bytes) -> None:
    """The service does not parse such bytes, and continues to serve requests."""
    assert status_of(running.exchange(raw)) in (400, None)
    assert status_of(running.exchange(REQUEST)) == 200


@pytest.mark.parametrize("following", [
    b"\r\n", KEPT, b"BREW / HTTP/1.1\r\n\r\n", b"\x16\x03\x01 hello\r\n\r\n",
], ids=["empty line", "another request", "unknown method", "not HTTP"])  # fmt: skip
def test_response_to_a_whole_request_is_sent_whatever_follows_it(running: Process, following: bytes) -> None:
    """After `Connection: close` the service ignores further bytes (RFC 9112, 9.6)."""
    sent = running.exchange(REQUEST + following)
    assert sent.startswith(b"HTTP/1.1 200")
    assert sent.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("protocol", [b"h2c", b"foo", b"websocket"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_request_with_an_upgrade_header_is_served_or_rejected_as_a_whole(
    running: Process, protocol: bytes, framing: str
) -> None:
    """The handler gets the whole body, and bytes after the body do not become a part of it."""
    handled = len(running.events("body_handled"))
    upgrade = b"Connection: Upgrade\r\nUpgrade: %s\r\n" % protocol
    length = b"Content-Length: 5\r\n\r\nhello"
    body = length if framing == "length" else b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    sent = running.exchange(b"POST /api/body/echo HTTP/1.1\r\nHost: localhost\r\n" + upgrade + body + REQUEST)
    assert status_of(sent) in (200, 400, 404)
    assert status_of(running.exchange(REQUEST)) == 200
    sizes: list[Any] = [entry["size"] for entry in running.events("body_handled")[handled:]]
    assert sizes in ([], [5])
