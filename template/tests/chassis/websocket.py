"""Serves an application on a port, in a thread of this process, so that a test can open WebSockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from anyio.from_thread import BlockingPortal, start_blocking_portal
from websockets.sync.client import ClientConnection, connect

from ..package import module
from .process import PATIENCE_SECONDS


@dataclass
class Served:
    """An application that uvicorn serves."""

    chassis: Any
    port: int
    _portal: BlockingPortal

    def open(self, path: str, **options: Any) -> ClientConnection:
        """Open a WebSocket; `options` are those of the library websockets. Use it as a context manager."""
        return connect(f"ws://127.0.0.1:{self.port}{path}", **options)

    def call(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Call a coroutine function on the event loop of the service, and return its result."""
        return self._portal.call(function, *arguments)

    def send(self, room: str, message: Any) -> None:
        """Send a message to all clients in a room."""
        self.call(self.broadcaster.send, room, message)

    @property
    def broadcaster(self) -> Any:
        return self.chassis.get(module("chassis.websocket.broadcaster").Broadcaster)


@contextmanager
def serving(app: Any) -> Iterator[Served]:
    """Serve an application with its middleware and its resources."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_served(app)) as port:
        yield Served(app.chassis, port, portal)


@asynccontextmanager
async def _served(app: Any) -> AsyncIterator[int]:
    middleware = module("chassis.app").asgi_app(app)
    server = uvicorn.Server(module("chassis.server.uvicorn").uvicorn_config(middleware))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with middleware.lifespan():
            running = asyncio.create_task(server.serve([listener]))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not server.started:
                    await asyncio.sleep(0.01)
            yield listener.getsockname()[1]
            server.should_exit = True
            await running
