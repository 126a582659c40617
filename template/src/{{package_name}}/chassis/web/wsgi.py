"""The one pass around a WSGI application (PEP 3333)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from functools import cached_property, partial
from typing import Any

import stamina
import structlog

from .. import errors, request_context
from ..access_lines.wsgi import LineWriter
from ..access_log import access_log
from ..health.monitor import HEADERS, PATHS
from ..health.wsgi import ThreadMonitor
from ..limits.wsgi import Deadlines, Slots
from ..problem import Answer
from ..request_context import RequestContext
from ..service import Lifespan, Service
from ..startup import is_away, policy
from .edge import WANTED, Edge

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]

_WANTED = {
    "CONTENT_LENGTH" if name == "content-length" else f"HTTP_{name.upper().replace('-', '_')}": name for name in WANTED
}
# A body that says it is no longer than this is sent in one piece, which saves the server a call for each part of it.
_SENT_WHOLE_BYTES = 65_536
# granian names itself unless it is given a value.
_NAMELESS = ("server", "")

log = structlog.get_logger(__name__)


@contextmanager
def lifespan(service: Service) -> Iterator[None]:
    """Open what the features need in order, mark the service started, and close everything in reverse."""
    retry = stamina.RetryingCaller(**policy(service))
    with ExitStack() as stack:
        for name, opener in service.lifespans:
            retry(is_away(service), _open, stack, opener)
            log.info("dependency_opened", dependency=name)
        service.lifecycle.mark_started()
        yield
    service.lifecycle.mark_stopped()


def _open(stack: ExitStack, opener: Lifespan) -> None:
    resource = opener()
    if isinstance(resource, AbstractAsyncContextManager):
        raise TypeError("a dependency opens asynchronously, which a WSGI service cannot do")
    stack.enter_context(resource)


class WsgiPass:
    """Wraps an application so that every request is identified, limited, answered and logged, even when it crashes."""

    def __init__(self, app: App, service: Service, route_of: Callable[[Environ], str | None]) -> None:
        self._app = app
        self._service = service
        self._admissions = service.admissions
        self._route_of = route_of
        self._monitor = ThreadMonitor(service)
        self._deadlines = Deadlines(service.settings.request_timeout_seconds)
        self._slots = Slots(service.settings.server_threads)
        self._lines = LineWriter(access_log(service.settings))
        service.provide(self._lines)

    @cached_property
    def _edge(self) -> Edge[str]:
        """Made with the first request, when `main.py` has added all it has to the service."""
        return Edge(self._service, str)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        head = {name: environ[key] for key, name in _WANTED.items() if environ.get(key)}
        context = self._edge.open(
            environ["REQUEST_METHOD"], _path(environ), head, environ.get("REMOTE_ADDR", ""), environ["wsgi.url_scheme"]
        )
        context.find_route = partial(self._route_of, environ)
        exchange = _Exchange(self._edge, self._lines, context, head, start_response)
        token = request_context.enter(context)
        try:
            if context.path in PATHS:
                return exchange.reply(self._health(context))
            body = self._serve(exchange, environ)
            if isinstance(body, list):
                self._lines.add(context)
            return body
        finally:
            request_context.leave(token)

    def _serve(self, exchange: _Exchange, environ: Environ) -> Iterable[bytes]:
        """Run the application when it has a thread to spare."""
        refusal = self._edge.refuse(exchange.context, exchange.head)
        if refusal is not None:
            return exchange.reply(refusal)
        if "transfer-encoding" in exchange.head:
            environ["wsgi.input"] = _CountedInput(environ["wsgi.input"], self._edge.max_body_bytes)
        try:
            self._slots.take()
        except errors.UnavailableError as error:
            return exchange.reply(self._edge.failure(error))
        try:
            return self._run(exchange, environ)
        finally:
            self._slots.give_back()

    def _run(self, exchange: _Exchange, environ: Environ) -> Iterable[bytes]:
        """Run the application under its deadline; whatever it raises becomes an answer."""
        watch = self._deadlines.start()
        try:
            try:
                for admit in self._admissions:
                    admit(exchange.context, exchange.head)
                body = exchange.collect(self._app(environ, exchange.start_response))
            finally:
                watch.stop()
        except Exception as error:
            watch.stop()
            return exchange.reply(self._edge.failure(error))
        if watch.expired:  # and something in the application swallowed the interruption
            if isinstance(body, _Streamed):
                body.abandon()
            return exchange.reply(self._edge.failure(errors.DeadlineExceededError()))
        exchange.start()
        return body

    def _health(self, context: RequestContext) -> Answer:
        if context.method not in ("GET", "HEAD"):
            return self._edge.failure(errors.MethodNotAllowedError(["GET", "HEAD"]))
        try:
            status, body = self._monitor.answer(context.path)
        except Exception as error:
            return self._edge.failure(error)
        return Answer(status, HEADERS, body)


class _Exchange:
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

    def collect(self, body: Iterable[bytes]) -> list[bytes] | _Streamed:
        """Return what the application answered: small bodies whole, others as they come."""
        for name, value in self._headers:
            if name.lower() == "content-length" and int(value) <= _SENT_WHOLE_BYTES:
                break
        else:
            return _Streamed(body, self._edge, self._lines, self.context)
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


class _Streamed:
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


class _CountedInput:
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


def _path(environ: Environ) -> str:
    """Return the path as text: WSGI carries its bytes as Latin-1."""
    path: str = environ.get("PATH_INFO", "") or "/"
    return path if path.isascii() else path.encode("latin-1").decode("utf-8", "replace")


def _close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()


def _refuse_write(_data: bytes) -> None:
    raise NotImplementedError("write() is not supported; return an iterable (PEP 3333 keeps write() for old code only)")
