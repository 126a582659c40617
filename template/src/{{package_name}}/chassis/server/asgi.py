"""Serves an ASGI application with uvicorn, which answers while it drains (measured: nothing lost, see docs)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from pydantic import Field

from ..lifecycle import Lifecycle
from ..service import service_of
from ..settings import BaseChassisSettings


class Settings(BaseChassisSettings):
    """Server"""

    keep_alive_timeout_seconds: int = Field(
        75, ge=1, description="How long an idle connection is kept; longer than the balancer in front keeps it."
    )


class DrainingServer(uvicorn.Server):
    """A server whose first SIGTERM or SIGINT only starts the drain; the second one stops it at once."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_seconds: float) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_seconds = drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._lifecycle.draining or not self.started:
            self.should_exit = True
            self.force_exit = self._lifecycle.draining and sig == signal.SIGINT
            return
        self._lifecycle.drain()
        asyncio.get_running_loop().call_soon_threadsafe(self._stop_later)

    def _stop_later(self) -> None:
        asyncio.get_running_loop().call_later(self._drain_seconds, setattr, self, "should_exit", True)


def serve(create_app: Callable[[], Any], settings: Any) -> int:
    """Serve until told to stop; return the exit code of the process."""
    app = create_app()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        # The pass does these better, once and for every server: see web/edge.py.
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_keep_alive=settings.keep_alive_timeout_seconds,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout_seconds)),
    )
    server = DrainingServer(config, service_of(app).lifecycle, settings.shutdown_drain_seconds)
    server.run()
    return 0 if server.started else 3
