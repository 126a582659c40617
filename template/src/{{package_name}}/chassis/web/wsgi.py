"""The one pass around a WSGI application (PEP 3333)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import Any

from .. import errors, request_context
from ..access_lines.wsgi import LineWriter
from ..access_log import access_log
from ..health.monitor import HEADERS, PATHS
from ..health.wsgi import ThreadMonitor
from ..limits.wsgi import Deadlines, Slots
from ..problem import Answer
from ..request_context import RequestContext
from ..service import Service
from .edge import WANTED, Edge
from .exchange.wsgi import CountedInput, Exchange, StartResponse, Streamed

Environ = dict[str, Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]

_WANTED = {
    "CONTENT_LENGTH" if name == "content-length" else f"HTTP_{name.upper().replace('-', '_')}": name for name in WANTED
}


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
        exchange = Exchange(self._edge, self._lines, context, head, start_response)
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

    def _serve(self, exchange: Exchange, environ: Environ) -> Iterable[bytes]:
        """Run the application when it has a thread to spare."""
        refusal = self._edge.refuse(exchange.context, exchange.head)
        if refusal is not None:
            return exchange.reply(refusal)
        if "transfer-encoding" in exchange.head:
            environ["wsgi.input"] = CountedInput(environ["wsgi.input"], self._edge.max_body_bytes)
        try:
            self._slots.take()
        except errors.UnavailableError as error:
            return exchange.reply(self._edge.failure(error))
        try:
            return self._run(exchange, environ)
        finally:
            self._slots.give_back()

    def _run(self, exchange: Exchange, environ: Environ) -> Iterable[bytes]:
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
            if isinstance(body, Streamed):
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


def _path(environ: Environ) -> str:
    """Return the path as text: WSGI carries its bytes as Latin-1."""
    path: str = environ.get("PATH_INFO", "") or "/"
    return path if path.isascii() else path.encode("latin-1").decode("utf-8", "replace")
