"""The one pass around an ASGI application: no layers, and a `send` that is no coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import stamina
import structlog

from .. import errors, request_context
from ..access_lines.asgi import LineWriter
from ..access_log import access_log
from ..health.asgi import AsyncMonitor
from ..health.monitor import HEADERS, PATHS
from ..limits.asgi import Deadlines
from ..problem import Answer
from ..request_context import RequestContext
from ..service import Lifespan, Service
from ..startup import is_away, policy
from .edge import WANTED, Edge

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_WANTED = {name.encode(): name for name in WANTED}

log = structlog.get_logger(__name__)


@asynccontextmanager
async def lifespan(service: Service) -> AsyncIterator[None]:
    """Open what the features need in order, and close everything in reverse."""
    retry = stamina.AsyncRetryingCaller(**policy(service))
    async with AsyncExitStack() as stack:
        for name, opener in service.lifespans:
            await retry(is_away(service), _open, stack, opener)
            log.info("dependency_opened", dependency=name)
        yield


async def _open(stack: AsyncExitStack, opener: Lifespan) -> None:
    resource = opener()
    if isinstance(resource, AbstractAsyncContextManager):
        await stack.enter_async_context(resource)
    else:
        stack.enter_context(resource)


class AsgiPass:
    """Wraps an application so that every request is identified, limited, answered and logged, even when it crashes."""

    def __init__(self, app: App, service: Service, route_of: Callable[[Scope], str | None]) -> None:
        self._app = app
        self._service = service
        self._route_of = route_of
        self._edge = Edge(service, _encode)
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
        exchange = _Exchange(self._edge, context, head, send)
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

    async def _serve(self, exchange: _Exchange, scope: Scope, receive: Receive) -> None:
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


class _Exchange:
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
        headers = [(_encode(name), _encode(value)) for name, value in answer.headers.items()]
        if answer.status != 204:  # an answer that has no body has no length either (RFC 9110, 8.6)
            headers.append((b"content-length", str(len(answer.body)).encode()))
        await self.send({"type": "http.response.start", "status": answer.status, "headers": headers})
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


def _encode(text: str) -> bytes:
    return text.encode("latin-1")


async def _nothing() -> None:
    """Stand for a message of an answer that was replaced."""
