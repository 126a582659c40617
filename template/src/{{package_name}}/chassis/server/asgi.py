"""Serves an ASGI application with uvicorn, which answers while it starts, and drains before it stops."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from contextvars import Context
from logging import getLogger
from types import FrameType
from typing import Any

import uvicorn
from pydantic import Field
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..access_lines.asgi import LineWriter
from ..access_log import access_log
from ..lifecycle import Lifecycle
from ..service import service_of
from ..settings import BaseChassisSettings
from ..startup import EX_UNAVAILABLE
from ..web.exchange.asgi import refuse_unreadable

# What uvicorn says of it besides, without telling of whom; the access line does.
_UNREADABLE = "Invalid HTTP request received."


class Settings(BaseChassisSettings):
    """Server"""

    keep_alive_timeout_seconds: int = Field(
        75, ge=1, description="How long an idle connection is kept; longer than the balancer in front keeps it."
    )


class OpenedWhileListening(LifespanOn):
    """Has the application open what it needs while the server listens already, so that probes see it start."""

    def __init__(self, config: uvicorn.Config, on_failure: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_failure = on_failure

    async def startup(self) -> None:
        self.receive_queue.put_nowait({"type": "lifespan.startup"})
        self._life = asyncio.create_task(self.main())
        self._life.add_done_callback(self._ended)

    def _ended(self, _life: asyncio.Task[None]) -> None:
        if self.error_occurred:
            self._on_failure()

    async def shutdown(self) -> None:
        if self.startup_event.is_set():
            await super().shutdown()
            return
        self._life.cancel()  # nobody needs any more what is being opened
        await asyncio.wait([self._life], timeout=self.config.timeout_graceful_shutdown)


class Protocol(HttpToolsProtocol):
    """HTTP/1.1; what cannot be read is refused in the words of the service, with the headers of any other answer."""

    def send_400_response(self, msg: str) -> None:
        asked = self.cycle is not None and not self.cycle.response_complete
        if asked and not self.cycle.more_body:
            # A whole request came before it, and has the last answer of this connection.
            self.shutdown()
            self.flow.pause_reading()
            return
        if not (asked and self.cycle.response_started):
            self.transport.write(self._refusal(is_request=not asked))
        self.transport.close()

    def _refusal(self, *, is_request: bool) -> bytes:
        """Return the answer; when it is part of a request, that one has its line, as one that broke off."""
        peer = self.client[0] if self.client else ""
        service = service_of(self.config.app)
        context, answer = refuse_unreadable(service, peer, self.server_state.default_headers)
        if is_request:
            LineWriter(access_log(service.settings)).add(context)
        return answer


class DrainingServer(uvicorn.Server):
    """A server whose first SIGTERM or SIGINT only starts the drain; the second one stops it at once."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_seconds: float) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_seconds = drain_seconds
        self.failed_to_start = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.lifespan = OpenedWhileListening(self.config, self._give_up)
        await super().startup(sockets)

    def _give_up(self) -> None:
        self.failed_to_start = not self._lifecycle.draining
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        told_before = self._lifecycle.draining
        Context().run(self._lifecycle.drain)  # whatever request the signal has interrupted is not concerned
        if told_before or not self._lifecycle.started:
            self.should_exit = True
            self.force_exit = told_before and sig == signal.SIGINT
            return
        asyncio.get_running_loop().call_soon_threadsafe(self._stop_later)

    def _stop_later(self) -> None:
        asyncio.get_running_loop().call_later(self._drain_seconds, setattr, self, "should_exit", True)


def serve(create_app: Callable[[], Any], settings: Any) -> int:
    """Serve until told to stop; return the exit code of the process."""
    app = create_app()
    getLogger("uvicorn.error").addFilter(lambda record: record.getMessage() != _UNREADABLE)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        # The pass does these better, once and for every server: see web/edge.py.
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=Protocol,
        lifespan="on",
        timeout_keep_alive=settings.keep_alive_timeout_seconds,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout_seconds)),
    )
    lifecycle = service_of(app).lifecycle
    lifecycle.opening = True
    server = DrainingServer(config, lifecycle, settings.shutdown_drain_seconds)
    server.run()
    return EX_UNAVAILABLE if server.failed_to_start else 0
