"""One request's answer on WSGI (PEP 3333), whole or as it is made, and a body that is counted while it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ... import errors, request_context
from ...access_lines.wsgi import LineWriter
from ...problem import Answer
from ...request_context import RequestContext
from ..edge import Edge

StartResponse = Callable[..., Any]

# A body that says it is no longer than this is sent in one piece, which saves the server a call for each part of it.
_SENT_WHOLE_BYTES = 65_536
# granian names itself unless it is given a value.
_NAMELESS = ("server", "")


class Exchange:
    """One request's answer. What the application starts is held back until there is no error left to replace it."""

    __slots__ = ("_edge", "_headers", "_lines", "_start_response", "_status", "context", "head")

    def __init__(
        self,
        edge: Edge[str],
        lines: LineWriter,
        context: RequestContext,
        head: dict[str, str],
        start_response: StartResponse,
    ) -> None:
        self._edge = edge
        self._lines = lines
        self._start_response = start_response
        self._status = ""
        self._headers: list[tuple[str, str]] = []
        self.context = context
        self.head = head

    def start_response(self, status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Callable[..., Any]:
        self._status, self._headers = status, headers
        return _refuse_write

    def collect(self, body: Iterable[bytes]) -> list[bytes] | Streamed:
        """Return what the application answered: small bodies whole, others as they come."""
        for name, value in self._headers:
            if name.lower() == "content-length" and int(value) <= _SENT_WHOLE_BYTES:
                break
        else:
            return Streamed(body, self._edge, self._lines, self.context)
        try:
            return [b"".join(body)]
        finally:
            _close(body)

    def reply(self, answer: Answer) -> list[bytes]:
        """Send a whole answer made outside the application."""
        self._status = f"{answer.status} {errors.phrase(answer.status)}"
        self._headers = list(answer.headers.items())
        if answer.status != 204:  # an answer that has no body has no length either (RFC 9110, 8.6)
            self._headers.append(("content-length", str(len(answer.body))))
        if self.head.get("content-length", "0") != "0" or "transfer-encoding" in self.head:
            # The server closes a connection on which half a request was read; the client has to know (RFC 9112, 9.6).
            self._headers.append(("connection", "close"))
        self.start()
        return [b"" if self.context.method == "HEAD" else answer.body]

    def start(self) -> None:
        """Tell the server what the answer begins with."""
        present = {name.lower() for name, _ in self._headers}
        added = self._edge.added_headers(self.context, self.head, present)
        self.context.status = int(self._status[:3])
        self._start_response(self._status, [*self._headers, *added, _NAMELESS])


class Streamed:
    """A body that is made while it is sent; the request lasts, and is logged, until its end."""

    def __init__(self, body: Iterable[bytes], edge: Edge[str], lines: LineWriter, context: RequestContext) -> None:
        self._body = body
        self._parts = iter(body)
        self._edge = edge
        self._lines = lines
        self._context = context

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token = request_context.enter(self._context)
        try:
            return next(self._parts)
        except StopIteration:
            raise
        except Exception as error:
            self._edge.failure(error)
            # granian ends the answer in the same way whatever is raised here, and would log the error a second time.
            raise StopIteration from None
        finally:
            request_context.leave(token)

    def abandon(self) -> None:
        """Close the body of an answer that another one stands for."""
        _close(self._body)

    def close(self) -> None:
        self.abandon()
        self._lines.add(self._context)


class CountedInput:
    """A body of unknown length that stops the application at the limit."""

    def __init__(self, stream: Any, max_bytes: int) -> None:
        self._stream = stream
        self._left = max_bytes

    def read(self, size: int = -1) -> bytes:
        # One byte more than is allowed tells a body at the limit from one over it.
        return self._count(self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1))

    def readline(self, size: int = -1) -> bytes:
        return self._count(self._stream.readline(min(size, self._left + 1) if size >= 0 else self._left + 1))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _count(self, part: bytes) -> bytes:
        self._left -= len(part)
        if self._left < 0:
            raise errors.PayloadTooLargeError()
        return part


def _close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()


def _refuse_write(_data: bytes) -> None:
    raise NotImplementedError("write() is not supported; return an iterable (PEP 3333 keeps write() for old code only)")
