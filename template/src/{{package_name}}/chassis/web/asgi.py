"""The one pass around an ASGI application: no layers, and no convenience that costs more than what it does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

import structlog

from .. import errors, request_context
from ..access_lines.asgi import LineWriter
from ..access_log import access_log
from ..health.asgi import AsyncMonitor
from ..health.monitor import HEADERS, PATHS
from ..limits.asgi import Deadlines
from ..problem import Answer
from ..request_context import RequestContext
from ..service import Service
from .edge import WANTED, Edge
from .exchange.asgi import Exchange, Message, Receive, Send, encode

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_WANTED = {name.encode(): name for name in WANTED}

log = structlog.get_logger(__name__)


class AsgiPass:
    """Wraps an application so that every request is identified, limited, answered and logged, even when it crashes."""

    def __init__(self, app: App, service: Service, route_of: Callable[[Scope], str | None]) -> None:
        self._app = app
        self._service = service
        self._route_of = route_of
        self._edge = Edge(service, encode)
        self._admissions = service.admissions
        self._monitor = AsyncMonitor(service)
        self._deadlines = Deadlines(self._edge.timeout_seconds)
        self._lines = LineWriter(access_log(service.settings))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, partial(self._note_life, send) if scope["type"] == "lifespan" else send)
            return
        head = {_WANTED[name]: value.decode("latin-1") for name, value in scope["headers"] if name in _WANTED}
        client = scope.get("client")
        context = self._edge.open(
            scope["method"], scope["path"], head, client[0] if client else "", scope.get("scheme", "http")
        )
        context.find_route = partial(self._route_of, scope)
        exchange = Exchange(self._edge, context, head, send)
        token = request_context.enter(context)
        try:
            if scope["path"] in PATHS:
                await exchange.reply(await self._health(context), body_wanted=context.method != "HEAD")
            else:
                await self._serve(exchange, scope, receive)
                self._lines.add(context)
        finally:
            request_context.leave(token)

    async def _note_life(self, send: Send, message: Message) -> None:
        """Take note of how start and stop went: only the application knows when its own lifespan is open too."""
        lifecycle = self._service.lifecycle
        if message["type"] == "lifespan.startup.complete":
            lifecycle.mark_started()
        elif message["type"] == "lifespan.shutdown.complete":
            lifecycle.mark_stopped()
        elif message["type"] == "lifespan.startup.failed":
            if not lifecycle.draining:
                log.exception("startup_failed")
            message["message"] = ""  # it was a traceback, which the server would log a second time
        await send(message)

    async def _serve(self, exchange: Exchange, scope: Scope, receive: Receive) -> None:
        """Run the application under the limits; whatever it raises becomes an answer."""
        refusal = self._edge.refuse(exchange.context, exchange.head)
        if refusal is not None:
            await exchange.reply(refusal)
            return
        if "transfer-encoding" in exchange.head:
            receive = exchange.counted(receive)
        watch = self._deadlines.start()
        try:
            try:
                for admit in self._admissions:
                    pending = admit(exchange.context, exchange.head)
                    if pending is not None:
                        await pending
                await self._app(scope, receive, exchange.send)
            finally:
                watch.stop()
        except asyncio.CancelledError as cancelled:
            if not watch.expired or watch.task.cancelling():
                raise
            late = errors.DeadlineExceededError()
            late.__cause__ = cancelled  # which tells where the time went
            await exchange.fail(late)
        except Exception as error:
            await exchange.fail(error)

    async def _health(self, context: RequestContext) -> Answer:
        if context.method not in ("GET", "HEAD"):
            return self._edge.failure(errors.MethodNotAllowedError(["GET", "HEAD"]))
        try:
            status, body = await self._monitor.answer(context.path)
        except Exception as error:
            return self._edge.failure(error)
        return Answer(status, HEADERS, body)
