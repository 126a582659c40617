"""One request's answer on ASGI, and a body that is counted while it is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from ... import errors, request_context
from ...problem import Answer
from ...request_context import RequestContext
from ...service import Service
from ..edge import Edge

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def encode(text: str) -> bytes:
    """Write a header as ASGI sends it."""
    return text.encode("latin-1")


class Exchange:
    """One request's answer: what was sent of it, and the headers it still lacks."""

    __slots__ = ("_edge", "_replaced", "_send", "_too_large", "context", "head")

    def __init__(self, edge: Edge[bytes], context: RequestContext, head: dict[str, str], send: Send) -> None:
        self._edge = edge
        self._send = send
        self._too_large = False
        self._replaced = False
        self.context = context
        self.head = head

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on; plain on purpose: a coroutine for each message would cost more than all it does."""
        if self._replaced:
            return _nothing()
        if message["type"] != "http.response.start":
            return self._send(message)
        if self._too_large:
            return self._replace()
        headers = list(message.get("headers", ()))
        present = {name.lower() for name, _ in headers}
        self.context.status = message["status"]
        message["headers"] = headers + self._edge.added_headers(self.context, self.head, present)
        return self._send(message)

    async def reply(self, answer: Answer, *, body_wanted: bool = True) -> None:
        """Send a whole answer made outside the application."""
        await self.send({"type": "http.response.start", "status": answer.status, "headers": _headers(answer)})
        await self.send({"type": "http.response.body", "body": answer.body if body_wanted else b""})

    async def fail(self, error: Exception) -> None:
        """Answer with the error; when half an answer is out already the server cuts the connection, which tells."""
        failure = self._edge.failure(error)
        if not self.context.status:
            self._too_large = False
            await self.reply(failure)

    def counted(self, receive: Receive) -> Receive:
        """Return a `receive` for a body of unknown length that stops the application at the limit."""
        received = 0

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._edge.max_body_bytes:
                self._too_large = True
                raise errors.PayloadTooLargeError()
            return message

        return count

    async def _replace(self) -> None:
        """Say that the body is too large, whatever the framework made of the error that stopped its reading."""
        self._too_large = False
        await self.reply(self._edge.failure(errors.PayloadTooLargeError()))
        self._replaced = True


def refuse_unreadable(
    service: Service, peer: str, default_headers: Iterable[tuple[bytes, bytes]]
) -> tuple[RequestContext, bytes]:
    """Return the answer, from its first byte on, to what is no HTTP and never reaches the pass, and its context.

    The method is `_OTHER`, which OpenTelemetry has for those that are not known.
    """
    edge = Edge(service, encode)
    context = edge.open("_OTHER", "", {}, peer, "http")
    token = request_context.enter(context)
    answer = edge.failure(errors.BadRequestError())
    request_context.leave(token)
    context.status = answer.status
    headers = dict([*default_headers, *_headers(answer), *edge.added_headers(context, {}, set())])
    headers[b"connection"] = b"close"
    lines = [b"HTTP/1.1 400 Bad Request", *(name + b": " + value for name, value in headers.items())]
    return context, b"\r\n".join(lines) + b"\r\n\r\n" + answer.body


def _headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    headers = [(encode(name), encode(value)) for name, value in answer.headers.items()]
    if answer.status != 204:  # an answer that has no body has no length either (RFC 9110, 8.6)
        headers.append((b"content-length", str(len(answer.body)).encode()))
    return headers


async def _nothing() -> None:
    """Stand for a message of an answer that was replaced."""
