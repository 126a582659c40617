"""Wrappers around one request: one sends its response, the other receives its body."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .. import errors
from ..app import Chassis, Message, Receive, Send
from ..request_context import RequestContext
from .headers import RawHeaders, ResponseHeaders, encoded, is_sendable
from .problems import RawResponse, problem_response
from .timeouts import TimeoutHandle

# Frameworks parse and validate a body without a pause. Between two large bodies, other requests are served.
_LARGE_BODY_BYTES = 65_536
# A health probe takes about five turns of the event loop, from its connection to its response.
_TURNS = 10


@dataclass(slots=True, eq=False)
class ResponseWriter:
    """Sends the response of one request, completes its headers, and reports when it has ended."""

    _chassis: Chassis
    context: RequestContext
    _headers: ResponseHeaders
    _cors: RawHeaders
    _send: Send
    _on_end: Callable[[RequestContext], None]
    _lines: list[bytes] | None = None
    _is_replaced: bool = False
    timeout: TimeoutHandle | None = None
    # The error that replaces the application's response, because the request body was invalid.
    replacement: errors.ServiceError | None = None

    def send(self, message: Message) -> Awaitable[None]:
        """Pass on a message of the application. Not a coroutine: one per message would cost more than its work."""
        if self._is_replaced:
            return nothing()
        if message["type"] != "http.response.start":
            if not message.get("more_body", False) and not self.context.ended:
                self._on_end(self.context)
            return self._send(message)
        if self.replacement is None and self.context.timed_out:
            self.replacement = errors.DeadlineExceededError()
        fault = self.replacement or _fault(message)
        return self._start(message) if fault is None else self.replace(fault)

    def _start(self, message: Message) -> Awaitable[None]:
        headers = list(message["headers"])
        present = {name.lower() for name, _ in headers}
        if self.timeout is not None:
            self.timeout.stop()
            self.timeout = None
        self.context.status = message["status"]
        message["headers"] = headers + self._headers.missing(self.context, self._cors, present, self._lines)
        return self._send(message)

    async def send_response(self, response: RawResponse) -> None:
        """Send a whole response that was made outside the application."""
        headers = encoded(response.headers)
        if response.status != 204:  # a response without a body has no length either (RFC 9110, 8.6)
            headers.append((b"content-length", str(len(response.body)).encode()))
        body = b"" if self.context.method == "HEAD" else response.body
        await self._start({"type": "http.response.start", "status": response.status, "headers": headers})
        if not self.context.ended:
            self._on_end(self.context)
        await self._send({"type": "http.response.body", "body": body})

    async def send_error(self, error: BaseException) -> None:
        """Send the response to an exception. If a response has begun, the server cuts the connection instead."""
        if error is self.context.error and self.context.status:
            return  # the framework's adapter has logged the error and sent the response
        response = problem_response(self._chassis, error)
        if not self.context.status:
            await self.send_response(response)

    async def replace(self, error: Exception) -> None:
        """Send the response to an error, and drop whatever the application still sends."""
        self._is_replaced = True
        await self.send_error(error)


def _fault(message: Message) -> Exception | None:
    """Return why the server could not send the head of a response."""
    message["headers"] = headers = list(message.get("headers", ()))
    if not 100 <= message["status"] <= 599:
        return ValueError(f"the response status {message['status']} is not a valid status")
    for name, value in headers:
        if not is_sendable(name, value):
            return ValueError(f"the response header {name!r} holds a character that is not allowed there")
    return None


class RequestBody:
    """A request body with a size limit. An application never reads a truncated body as if it were complete."""

    __slots__ = ("_expected", "_max_bytes", "_receive", "_received", "_turns", "_writer", "is_awaited")

    def __init__(
        self, receive: Receive, writer: ResponseWriter, turns: asyncio.Lock, max_bytes: int, length: bytes | None
    ) -> None:
        """Wrap `receive`; `length` is the Content-Length header, None for a chunked body. All bodies share `turns`."""
        self._receive = receive
        self._turns = turns
        self._writer = writer
        self._max_bytes = max_bytes
        self._expected = None if length is None else int(length.lstrip(b"0") or b"0")
        self._received = 0
        # Whether the application waits for the client to send more.
        self.is_awaited = False

    async def receive(self) -> Message:
        """Return the next ASGI message.

        Raises:
            PayloadTooLargeError: The body is over the limit.
            BadRequestError: The body is shorter than its Content-Length.
        """
        self.is_awaited = True
        message = await self._receive()
        self.is_awaited = False
        if message["type"] != "http.request":
            return message
        self._received += len(message.get("body", b""))
        if self._received > self._max_bytes:
            raise self._reject(errors.PayloadTooLargeError())
        if message.get("more_body", False):
            return message
        if self._expected is not None and self._received != self._expected:
            raise self._reject(errors.BadRequestError("The request body is incomplete."))
        if self._received > _LARGE_BODY_BYTES:
            async with self._turns:
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
        return message

    def _reject(self, error: errors.ServiceError) -> errors.ServiceError:
        self._writer.replacement = error
        return error


async def nothing() -> None:
    """Ignore a message of a response that was replaced."""
