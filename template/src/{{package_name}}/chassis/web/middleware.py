"""The middleware: it identifies, limits, answers and logs every request, even one that crashes.

It is the outermost ASGI application, around FastAPI or around the threads that Flask runs in.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property, partial, reduce
from typing import Any

import structlog

from .. import errors, request_context
from ..app import ASGIApp, Chassis, Receive, Scope, Send
from ..health.checks import Settings as HealthSettings
from ..health.monitor import HEADERS, PATHS, HealthEndpoints, HealthMonitor
from ..instrumentation import Measurement
from ..lifecycle import EX_CONFIG, EX_UNAVAILABLE
from ..logging.access_log import AccessLog
from ..request_context import RequestContext
from ..settings import ServiceSettings, SettingsError
from .conditional import not_modified
from .headers import HEADER_LINES, ResponseHeaders
from .policy import Request, RequestPolicy
from .problems import RawResponse
from .response import RequestBody, ResponseWriter
from .timeouts import Settings as TimeoutSettings
from .timeouts import TimeoutSweeper

AppLifespan = Callable[[], AbstractAsyncContextManager[Mapping[str, Any] | None]]

log = structlog.get_logger(__name__)


class ChassisMiddleware:
    """Wraps an ASGI application.

    Args:
        app: The application.
        chassis: The chassis with its features installed.
        route_of: Returns the template of the route that serves a scope, after the application has chosen the route.
        app_lifespan: The application's own lifespan, opened last and closed first; it may yield the requests' state.
    """

    # If false, the server ignores `Upgrade` headers, so a WebSocket handshake is served like any GET request.
    serves_websockets = False

    def __init__(
        self,
        app: ASGIApp,
        chassis: Chassis,
        route_of: Callable[[Scope], str | None],
        app_lifespan: AppLifespan,
    ) -> None:
        self._app = reduce(lambda inner, wrap: wrap(inner), chassis.asgi_middleware, app)
        self.chassis = chassis
        self._route_of = route_of
        self._app_lifespan = app_lifespan
        self._state: dict[str, Any] = {}
        self._late_responses: set[asyncio.Task[None]] = set()
        self._large_bodies = asyncio.Lock()
        self._active_requests = 0
        self._policy = RequestPolicy(chassis)
        self._timeouts = TimeoutSweeper(chassis.settings_as(TimeoutSettings).request_timeout_seconds)
        self._access_log = AccessLog(chassis.settings)
        monitor = HealthMonitor(chassis.settings_as(HealthSettings))
        service = chassis.settings_as(ServiceSettings)
        self._health = HealthEndpoints(chassis.health, monitor, chassis.lifecycle, service)
        chassis.measurements += [self._measure, self._health.measure]

    @cached_property
    def _response_headers(self) -> ResponseHeaders:
        """The headers of every response, encoded at the start, after `main.py` has added its own headers."""
        return ResponseHeaders(self.chassis)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = self._policy.begin(scope)
            headers, cors, lines = self._response_headers, request.cors_headers, scope.get(HEADER_LINES)
            writer = ResponseWriter(self.chassis, request.context, headers, cors, send, self._end, lines)
            await self._serve_request(self._app, scope, receive, request, writer)
        elif scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
        else:
            await self._serve_websocket(scope, receive, send)

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject a handshake. Only another ASGI server passes one on: see `serves_websockets`."""
        await send({"type": "websocket.close"})

    async def _serve_request(
        self, app: ASGIApp, scope: Scope, receive: Receive, request: Request, writer: ResponseWriter
    ) -> None:
        context = request.context
        context.find_route = partial(self._route_of, scope)
        token = request_context.bind(context)
        try:
            if context.path in PATHS:
                context.is_probe = True
                await self._respond_health(writer)
            elif self.chassis.lifecycle.opening:
                await writer.send_error(errors.UnavailableError("The service is starting."))
            else:
                self._active_requests += 1
                try:
                    await self._serve(app, scope, receive, request, writer)
                finally:
                    self._active_requests -= 1
        finally:
            if not context.ended:  # the response broke off
                self._end(context)
            request_context.reset(token)

    async def _serve(
        self, app: ASGIApp, scope: Scope, receive: Receive, request: Request, writer: ResponseWriter
    ) -> None:
        """Run the hooks and the application under the deadline; whatever they raise becomes a response."""
        body, raw = None, request.headers.raw
        if request.rejection is None and (b"content-length" in raw or b"transfer-encoding" in raw):
            length = raw.get(b"content-length")
            body = RequestBody(receive, writer, self._large_bodies, self._policy.max_body_bytes, length)
            receive = body.receive
        if self._state:
            scope["state"] = {**scope.get("state", {}), **self._state}
        timeout = writer.timeout = self._timeouts.start(writer.context)
        timeout.on_ignored = partial(self._respond_late, writer)
        try:
            await self._respond(app, scope, receive, request, writer)
        except asyncio.CancelledError as cancelled:
            error: errors.ServiceError = errors.InternalError()  # the handler awaited a task that was cancelled
            if timeout.take_back_cancellation():
                is_awaited = body is not None and body.is_awaited
                error = errors.RequestBodyTimeoutError() if is_awaited else errors.DeadlineExceededError()
            elif timeout.task.cancelling():
                raise  # the server cancels the request
            error.__cause__ = cancelled  # its traceback shows where the time went
            await writer.send_error(error)
        except (SystemExit, KeyboardInterrupt) as exit_request:  # they end a handler, not the service
            failure = RuntimeError(f"the handler raised {type(exit_request).__name__}")
            failure.__cause__ = exit_request
            await writer.send_error(failure)
        except Exception as failed:
            await writer.send_error(failed)

    async def _respond(
        self, app: ASGIApp, scope: Scope, receive: Receive, request: Request, writer: ResponseWriter
    ) -> None:
        rejection = request.rejection
        try:
            for hook in self.chassis.request_limiters + ([] if rejection else self.chassis.before_request):
                pending = hook(request.context, request.headers)
                if pending is not None:
                    await pending
            if rejection is None:
                send: Send = writer.send
                if b"if-none-match" in request.headers.raw and request.context.method in ("GET", "HEAD"):
                    send = not_modified(request.headers["if-none-match"], send)
                await app(scope, receive, send)
            elif isinstance(rejection, RawResponse):
                await writer.send_response(rejection)
            else:
                raise rejection
        finally:
            if writer.timeout is not None:  # no response has begun
                writer.timeout.stop()

    def _respond_late(self, writer: ResponseWriter) -> None:
        """Send the 504 of a handler that ignores its cancellation."""
        if writer.context.status or writer.context.ended:
            return
        task = asyncio.get_running_loop().create_task(self._replace(writer), context=contextvars.Context())
        self._late_responses.add(task)
        task.add_done_callback(self._late_responses.discard)

    async def _replace(self, writer: ResponseWriter) -> None:
        request_context.bind(writer.context)
        log.warning("cancellation_ignored")
        await writer.replace(errors.DeadlineExceededError())

    def _end(self, context: RequestContext) -> None:
        """Log a request that has ended and tell the observers, once."""
        context.end()
        if context.is_probe:
            return
        self._access_log(context)
        for observe in self.chassis.request_observers:
            try:
                observe(context)
            except Exception:
                log.exception("request_observer_failed")

    async def _respond_health(self, writer: ResponseWriter) -> None:
        if writer.context.method not in ("GET", "HEAD"):
            await writer.send_error(errors.MethodNotAllowedError(["GET", "HEAD"]))
            return
        try:
            status, body = await self._health.respond(writer.context.path)
        except Exception as error:
            await writer.send_error(error)
            return
        await writer.send_response(RawResponse(status, HEADERS, body))

    def _measure(self) -> Iterator[Measurement]:
        yield Measurement("http.server.active_requests", "Requests that are being served.", self._active_requests)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open the service's resources and the application's own, and close them in reverse order."""
        lifecycle = self.chassis.lifecycle
        _ = self._response_headers  # an invalid header fails the start instead of every response
        async with self.chassis.open_lifespans(), self._app_lifespan() as state:
            self._state.update(state or {})
            lifecycle.mark_started()
            yield
        lifecycle.mark_stopped()

    def log_failed_start(self, error: Exception) -> int:
        """Log why the start failed, with a traceback only for an unexpected error, and return the exit code."""
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, SettingsError):
            log.error("startup_failed", cause=str(error))
            return EX_CONFIG
        if isinstance(self.chassis.to_service_error(error), errors.UnavailableError):
            log.error("startup_failed", cause=str(error).partition("\n")[0])
        else:
            log.exception("startup_failed")
        return EX_UNAVAILABLE

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        """Speak the ASGI lifespan protocol, for servers and tests."""
        await receive()
        phase = "startup"
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()
        except Exception as error:
            if phase == "startup":
                self.log_failed_start(error)
            else:
                log.exception("shutdown_failed")
            await send({"type": f"lifespan.{phase}.failed", "message": ""})
        else:
            await send({"type": "lifespan.shutdown.complete"})
