"""Serves the application with uvicorn: it answers probes while it starts, limits connections, and drains at the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import threading
import time
from asyncio import CancelledError
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
from signal import SIGINT, SIGTERM, signal
from types import FrameType
from typing import Any

import structlog
import uvicorn
from pydantic import Field

from ..app import Chassis, chassis_of
from ..lifecycle import EX_UNAVAILABLE, flush_stdout
from ..settings import BaseChassisSettings, ServiceSettings
from ..web.middleware import ChassisMiddleware
from ..web.policy import LimitSettings
from ..web.timeouts import Settings as TimeoutSettings
from .connections import ConnectionLimits, limited

log = structlog.get_logger(__name__)

_BACKLOG = 2048


class Settings(BaseChassisSettings):
    """Server"""

    keep_alive_timeout_seconds: int = Field(
        75, ge=1, description="How long an idle connection stays open; set it above the load balancer's timeout."
    )
    max_connections: int = Field(
        1000, ge=1, description="How many connections may be open; a further one closes the one that is idle longest."
    )
    max_request_head_bytes: int = Field(
        65_536, ge=1024, description="Maximum size of request line and headers together; larger ones get 431."
    )
    request_head_timeout_seconds: float = Field(
        10.0, gt=0, description="How long a connection may take to send complete request headers; then it is closed."
    )


class DrainingServer(uvicorn.Server):
    """A server whose first SIGTERM or SIGINT starts the drain, and whose second one stops it at once.

    It opens the service's resources after it has begun to listen, so that probes see the start.
    """

    def __init__(self, config: uvicorn.Config, middleware: ChassisMiddleware, shutdown_timeout_seconds: float) -> None:
        super().__init__(config)
        self._middleware = middleware
        self._lifecycle = middleware.chassis.lifecycle
        self._drain_seconds = middleware.chassis.settings_as(ServiceSettings).shutdown_drain_seconds
        self._shutdown_timeout_seconds = shutdown_timeout_seconds
        self._is_over = asyncio.Event()
        self._resources: asyncio.Task[None] | None = None
        self.exit_code = 0
        # When the shutdown must have ended, in the time of `time.monotonic`.
        self._stops_at = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._resources = asyncio.create_task(self._hold_resources())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stops_at = time.monotonic() + self._shutdown_timeout_seconds
        await super().shutdown(sockets)
        self._is_over.set()
        if self._resources is None:
            return
        if not self._lifecycle.started:
            self._resources.cancel()  # whatever is still being opened is not needed any more
        await asyncio.wait([self._resources], timeout=self._shutdown_timeout_seconds)
        self._exit_in_time()

    def _exit_in_time(self) -> None:
        """End the process even if tasks or threads hang, for which asyncio and Python would wait without limit."""
        left_seconds = max(1.0, self._stops_at - time.monotonic())
        watchdog = threading.Timer(left_seconds, _abandon, [self.exit_code])
        watchdog.daemon = True
        watchdog.start()

    async def _hold_resources(self) -> None:
        """Open the resources, keep them open until the server has stopped, and close them in the same task."""
        try:
            async with self._middleware.lifespan():
                gc.freeze()  # a collection that examines these objects blocks the event loop for about 100 ms
                await self._is_over.wait()
        except Exception as error:
            if self._lifecycle.started:
                log.exception("shutdown_failed")
            elif not self._lifecycle.draining:
                self.exit_code = self._middleware.log_failed_start(error)
            self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # A signal handler may interrupt any code, even a write to the log, so it only schedules the work.
        asyncio.get_running_loop().call_soon_threadsafe(self._on_signal, sig, context=Context())

    def _on_signal(self, sig: int) -> None:
        was_draining = self._lifecycle.draining
        self._lifecycle.drain()
        if was_draining or not self._lifecycle.started:
            self.should_exit = True
            self.force_exit = was_draining and sig == SIGINT
            return
        asyncio.get_running_loop().call_later(self._drain_seconds, setattr, self, "should_exit", True)


def serve(create_app: Callable[[], Any], _settings: BaseChassisSettings) -> int:
    """Serve until a signal; return the exit code of the process."""
    for number in (SIGINT, SIGTERM):  # for signals before uvicorn sets its own handlers, and after it has removed them
        signal(number, lambda *_: os._exit(0))
    chassis = chassis_of(create_app())
    middleware = chassis.asgi
    if not isinstance(middleware, ChassisMiddleware):
        raise TypeError("the application has no middleware; call install(app, settings, FEATURES) in create_app")
    service = chassis.settings_as(ServiceSettings)
    try:
        listener = _listen(service.host, service.port)
    except OSError as error:
        log.error("listen_failed", host=service.host, port=service.port, cause=f"{error.strerror}; change HOST or PORT")
        return EX_UNAVAILABLE
    _log_address(chassis, listener)
    limit, max_connections = getrlimit(RLIMIT_NOFILE)[0], chassis.settings_as(Settings).max_connections
    if RLIM_INFINITY != limit < max_connections:
        log.warning("file_descriptor_limit_low", limit=limit, max_connections=max_connections)
    chassis.lifecycle.opening = True
    server = DrainingServer(uvicorn_config(middleware), middleware, service.shutdown_timeout_seconds)
    _run(server, listener)
    return server.exit_code


def _log_address(chassis: Chassis, listener: socket.socket) -> None:
    """Log the address for a browser on this machine, and that of the API documents if there are any."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, f"[{host}]" if ":" in host else host)
    url = f"http://{shown}:{port}"
    has_docs = chassis.routes is not None and chassis.routes.resolve("GET", "/docs") is not None
    log.info("listening", url=url, **({"docs": f"{url}/docs"} if has_docs else {}))


def _run(server: DrainingServer, listener: socket.socket) -> None:
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        loop = runner.get_loop()
        serving = loop.create_task(server.serve([listener]))
        while not serving.done():
            # A task that raises SystemExit stops the event loop, for example one in which a framework sends a stream.
            with suppress(SystemExit, KeyboardInterrupt):
                loop.run_until_complete(serving)
        loop.run_until_complete(serving)  # raises the exception that ended the server


def uvicorn_config(middleware: ChassisMiddleware) -> uvicorn.Config:
    """Return the configuration of the server, with the limits in the settings."""
    chassis = middleware.chassis
    settings, service = chassis.settings_as(Settings), chassis.settings_as(ServiceSettings)
    limits = ConnectionLimits(
        head_bytes=settings.max_request_head_bytes,
        head_timeout_seconds=settings.request_head_timeout_seconds,
        connections=settings.max_connections,
        read_timeout_seconds=chassis.settings_as(TimeoutSettings).response_idle_timeout_seconds,
    )
    chassis.measurements.append(limits.measure)
    # The server receives a message of a WebSocket completely before a handler sees it, like a request body.
    chassis.server_options.setdefault("ws_max_size", chassis.settings_as(LimitSettings).max_request_body_bytes)
    return uvicorn.Config(
        middleware,
        # Disabled here, because the middleware does the same for every framework, in the service's own form.
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        http=limited(limits),
        ws="auto" if middleware.serves_websockets else "none",
        timeout_keep_alive=settings.keep_alive_timeout_seconds,
        timeout_graceful_shutdown=max(1, round(service.shutdown_timeout_seconds)),
        backlog=_BACKLOG,
        # The next request on a connection must not see the context variables of the one before.
        reset_contextvars=True,
        **chassis.server_options,
    )


def _is_news(record: logging.LogRecord) -> bool:
    """Drop entries that clients cause, and entries about events that the middleware logs with the ids of the request.

    For WebSockets, modules named `websockets` log connections (INFO) and their content (DEBUG).
    """
    if record.levelno <= logging.INFO and Path(record.pathname).parent.name == "websockets":
        return False
    cause = record.exc_info and record.exc_info[1]
    is_cause_known = isinstance(cause, (CancelledError, UnicodeDecodeError))  # a decode error: not UTF-8
    return not (str(record.msg).startswith("ASGI callable returned without completing") or is_cause_known)


def _abandon(code: int) -> None:
    threads = [thread.name for thread in threading.enumerate() if not thread.daemon]
    log.warning("threads_abandoned", threads=threads)
    flush_stdout()
    os._exit(code)


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. An IPv6 wildcard (`::`) serves IPv4 too.

    Raises:
        OSError: The address is in use or does not exist.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    is_ipv6 = family == socket.AF_INET6
    dualstack = is_ipv6 and socket.has_dualstack_ipv6()
    return socket.create_server(address[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=dualstack)
