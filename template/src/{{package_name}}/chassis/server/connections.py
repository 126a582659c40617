"""Limits on connections: their number, the size and duration of a request head, and clients that stop reading.

This is the one file that builds on uvicorn's HTTP protocol class, which is not documented API. This is why
pyproject.toml has an upper bound for uvicorn. The names it relies on: `HttpToolsProtocol` with `loop`, `parser`,
`scope`, `headers`, `url`, `cycle` and its `transport`, `on_response_complete` and `_should_upgrade`. Everything else is
asyncio's protocol interface and httptools' callbacks.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, cast

import structlog
from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..app import Scope
from ..instrumentation import Measurement
from ..web.headers import HEADER_LINES
from ..web.policy import HEAD_TOO_LARGE

log = structlog.get_logger(__name__)

_SWEEP_SECONDS = 0.5
# More headers than this cost more to handle than their bytes suggest.
_MAX_HEADERS = 200
# httptools cannot parse a longer URL.
_MAX_URL_BYTES = 65_535
# A larger first part of a body is sent separately, because joining it with the head would copy it.
_MAX_JOINED_BYTES = 65_536
# The library websockets parses a handshake again, with its own limits: 128 headers, and 8192 bytes per line.
_MAX_HANDSHAKE_HEADERS = 128
_MAX_HANDSHAKE_LINE_BYTES = 8000


@dataclass(eq=False)
class ConnectionLimits:
    """The limits of a server, and the connections under these limits."""

    # The largest request line and headers together.
    head_bytes: int
    # How long a connection may take to send complete request headers: from their first byte, or from its own start.
    head_timeout_seconds: float
    # How many connections may be open. A further one closes the connection that has been idle longest.
    connections: int
    # How long a client may stop reading its response.
    read_timeout_seconds: float
    open: dict[LimitedConnection, None] = field(default_factory=dict)
    # Connections without a request in progress, the longest idle first, and when each must be closed. The time of a
    # kept-alive connection is infinite until its next byte arrives, because uvicorn's own timer closes it.
    idle: dict[LimitedConnection, float] = field(default_factory=dict)
    # Connections whose client does not read its response, and when each must be closed.
    stalled: dict[LimitedConnection, float] = field(default_factory=dict)
    # Connections that have become WebSockets. Only a client that stops reading is closed here.
    websockets: dict[LimitedConnection, None] = field(default_factory=dict)
    _is_sweeping: bool = False

    def add(self, connection: LimitedConnection) -> None:
        """Track a new connection, and close the longest idle one if there are too many."""
        self.open[connection] = None
        self.idle[connection] = time.monotonic() + self.head_timeout_seconds
        if len(self.open) > self.connections:
            self._longest_idle().abort()
        if not self._is_sweeping:
            self._schedule()

    def remove(self, connection: LimitedConnection) -> None:
        self.open.pop(connection, None)
        self.idle.pop(connection, None)
        self.stalled.pop(connection, None)
        self.websockets.pop(connection, None)

    def measure(self) -> Iterator[Measurement]:
        """Return the number of connections."""
        description = "Open connections of clients; idle ones have no request in progress."
        for state, count in (("active", len(self.open) - len(self.idle)), ("idle", len(self.idle))):
            yield Measurement("http.server.connection.count", description, count, {"state": state})
        yield Measurement("http.server.connection.max", "Limit of open connections of clients.", self.connections)

    def _longest_idle(self) -> LimitedConnection:
        """Return an idle connection, else one that waits for a body, else one that does not read, else the newest."""
        newest = next(reversed(self.idle))
        idle = (one for one in self.idle if one is not newest and not one.transport.get_write_buffer_size())
        reading = (one for one in self.open if one.is_reading_body)
        return next(chain(idle, reading, self.stalled), newest)

    def _schedule(self) -> None:
        self._is_sweeping = True
        asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self.websockets):
            connection.watch_websocket()
        for connection in self.stalled:
            connection.watch_reading()
        expired = [connection for connection, until in self.idle.items() if until < now]
        stalled = [connection for connection, until in self.stalled.items() if until < now]
        for connection in expired + stalled:
            connection.abort()
        if stalled:
            log.warning("slow_readers_closed", connections=len(stalled))
        self._is_sweeping = False
        if self.open or self.websockets:
            self._schedule()


class _Parser(HttpRequestParser):
    """A parser that ignores `Upgrade` headers if its connection does, as a server may (RFC 9110, 7.8).

    httptools considers a request with such a header complete after its head, so its body would be lost.
    """

    def __init__(self, connection: LimitedConnection) -> None:
        super().__init__(connection)
        self._connection = connection
        # As in uvicorn, the response to a complete request is sent even if invalid bytes follow the request.
        self.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: Any) -> None:
        try:
            super().feed_data(data)
        except HttpParserUpgrade as upgrade:
            head = self._connection.head_without_upgrade
            if head is None:
                raise
            self._connection.parser = _Parser(self._connection)
            self._connection.parser.feed_data(head + bytes(data[upgrade.args[0] :]))


class LimitedConnection(HttpToolsProtocol):
    """One HTTP/1.1 connection under the limits of its server."""

    limits: ConnectionLimits  # set on the subclass of each server

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # The parts of a body in the data that has just arrived. A client may send many chunks of one byte, so nothing
        # else is done for each part.
        self._body: list[bytes] = []
        self.on_body = self._body.append  # type: ignore[assignment]
        self.parser = _Parser(self)
        # The head without its `Upgrade` header, to be parsed again if this server ignores the upgrade.
        self.head_without_upgrade: bytes | None = None
        self._is_in_head = False
        self._is_rejected = False
        self._chunk_bytes = 0
        self._stalled_bytes = 0  # received since the head began, or since the last part of a body
        self._has_progress = False
        self._unread_bytes = 0
        self.limits.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.limits.remove(self)
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close the connection without waiting for a client that does not read."""
        self.limits.remove(self)
        self.transport.abort()

    # -- asyncio's protocol interface ----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._is_rejected or self.transport.is_closing():
            return
        self._chunk_bytes = len(data)
        self._has_progress = False
        super().data_received(data)
        if self.transport.get_protocol() is not self:  # a WebSocket from now on
            self.limits.remove(self)
            self.limits.websockets[self] = None
            return
        self._pass_on_body()
        if not self._has_progress:
            self._stalled_bytes += self._chunk_bytes
        if self._stalled_bytes > self.limits.head_bytes and not self.transport.is_closing():
            self._too_large()
        if self.limits.idle.get(self) == math.inf:  # the first bytes of another head
            self.limits.idle[self] = time.monotonic() + self.limits.head_timeout_seconds

    def pause_writing(self) -> None:
        super().pause_writing()
        self.watch_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.limits.stalled.pop(self, None)
        if self.transport.is_closing():
            self.watch_reading()

    def watch_reading(self) -> None:
        """Restart the timeout for reading whenever the client has read something."""
        unread_bytes = _unread_bytes(self.transport)
        if self not in self.limits.stalled or unread_bytes < self._unread_bytes:
            self.limits.stalled[self] = time.monotonic() + self.limits.read_timeout_seconds
        self._unread_bytes = unread_bytes

    def watch_websocket(self) -> None:
        """Record whether the client reads. asyncio notifies only the protocol that serves the WebSocket."""
        if self.transport.get_write_buffer_size():
            self.limits.stalled.setdefault(self, time.monotonic() + self.limits.read_timeout_seconds)
            return
        self.limits.stalled.pop(self, None)
        if self.transport.is_closing():
            self.limits.remove(self)

    # -- httptools' callbacks ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._is_in_head = True
        self.head_without_upgrade = None
        self._note_progress()
        if self in self.limits.idle:  # nothing else is in this chunk before the head
            self._stalled_bytes = self._chunk_bytes
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers of a chunked body are not headers (RFC 9110, 6.5.1).
        if self._is_in_head and len(self.headers) <= _MAX_HEADERS:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        if self.parser.should_upgrade() and self._ignores_upgrade():
            self.head_without_upgrade = self._write_head()
            return
        most_bytes = self._stalled_bytes + self._chunk_bytes
        is_large = most_bytes > self.limits.head_bytes and self._head_bytes() > self.limits.head_bytes
        if is_large or self._is_rejected or len(self.headers) > _MAX_HEADERS:
            cast(Scope, self.scope)[HEAD_TOO_LARGE] = True
            self.url = self.url[:_MAX_URL_BYTES]
        self._note_progress()
        self.limits.idle.pop(self, None)
        previous = self.cycle
        super().on_headers_complete()
        if self.cycle is not previous:  # None after a WebSocket handshake
            output = _ResponseTransport(self.transport, self.loop)
            self.cycle.transport = cast(Any, output)
            cast(Scope, self.scope)[HEADER_LINES] = output.lines

    def _pass_on_body(self) -> None:
        if self._body:
            self._note_progress()
            super().on_body(b"".join(self._body))
            self._body.clear()

    def on_message_complete(self) -> None:
        self._pass_on_body()
        if self.head_without_upgrade is not None:
            return
        super().on_message_complete()
        if self in self.limits.idle:  # the rest of a body came after its response
            self.limits.idle[self] = time.monotonic() + self.config.timeout_keep_alive

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self.watch_reading()  # asyncio closes it when the client has read everything
            return
        if not self.cycle.response_complete:
            return
        # A client that still sends its body, or has begun another head, must finish within the head timeout.
        is_sending = self.cycle.more_body or self._is_in_head or self._is_rejected
        until = time.monotonic() + self.limits.head_timeout_seconds if is_sending else math.inf
        self.limits.idle[self] = until

    def _note_progress(self) -> None:
        self._stalled_bytes = 0
        self._has_progress = True

    @property
    def is_reading_body(self) -> bool:
        """Whether a request waits for the rest of its body."""
        return self.cycle is not None and self.cycle.more_body and not self.cycle.response_complete

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _ignores_upgrade(self) -> bool:
        """Tell whether the head asks for an upgrade other than a WebSocket handshake (RFC 6455, 4.1)."""
        headers = dict(self.headers)
        if b"upgrade" not in headers:
            return False
        has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
        is_busy = self.cycle is not None and not self.cycle.response_complete
        if has_body or is_busy or self.parser.get_method() != b"GET" or not self._should_upgrade():
            return True
        # websockets sends no response to a handshake over its limits.
        longest = max(len(self.url), *(len(name) + len(value) for name, value in self.headers))
        self._is_rejected = longest > _MAX_HANDSHAKE_LINE_BYTES or len(self.headers) > _MAX_HANDSHAKE_HEADERS
        return self._is_rejected

    def _write_head(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _too_large(self) -> None:
        """Reject a head, or trailers or chunk framing of a body, that exceed the limit."""
        if not self._is_in_head or (self.cycle is not None and not self.cycle.response_complete):
            self.abort()
            return
        # The middleware rejects this complete head instead of the incomplete one.
        self._is_rejected = True
        self.parser = _Parser(self)
        self.parser.feed_data(b"GET / HTTP/1.1\r\n\r\n")
        # OpenTelemetry's method for requests whose method is not known.
        cast(Scope, self.scope).update(method="_OTHER", path="")
        # Only the sending side is closed, because closing with unread data would reset the connection, and the client
        # would not receive its response. If the client continues to send, the head timeout closes the connection.
        cast(_ResponseTransport, self.cycle.transport).close_transport = self.transport.write_eof


class _ResponseTransport:
    """The transport for one response. It sends the head and the first part of the body together, to save a packet."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None
        # The middleware adds header lines here, just before uvicorn writes the head.
        self.lines: list[bytes] = []
        self.is_closing = transport.is_closing
        self.close_transport = transport.close

    def write(self, data: bytes) -> None:
        if self.lines:
            data = data[:-2] + self.lines.pop() + b"\r\n"  # before the empty line that ends the head
        if self._head is None:
            self._head = data
            self._loop.call_soon(self._flush)  # the body may come later
        elif len(data) > _MAX_JOINED_BYTES:
            self._flush()
            self._transport.write(data)
        else:
            head, self._head = self._head, b""
            self._transport.write(head + data)

    def close(self) -> None:
        self._flush()
        self.close_transport()

    def _flush(self) -> None:
        if self._head:
            self.write(b"")


def _unread_bytes(transport: asyncio.Transport) -> int:
    """Return how much of what was written the client has not received.

    This includes the buffer of the kernel (tcp(7), SIOCOUTQ). The kernel accepts more bytes only after megabytes have
    left this buffer, so a client that reads 100 KB/s would seem to pause otherwise.
    """
    queued = bytearray(4)
    with suppress(AttributeError, OSError):  # not every system supports this
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
    return transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)


def limited(limits: ConnectionLimits) -> type[Any]:
    """Return the protocol class for `uvicorn.Config(http=...)` with these limits."""
    return type("Connection", (LimitedConnection,), {"limits": limits})
