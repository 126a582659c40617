"""Serves an application of any framework in this process, so that a test needs no port."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from ..package import module


@contextmanager
def open_client(app: Any, peer: str = "127.0.0.1", *, started: bool = True) -> Iterator[httpx.Client]:
    """Serve an application with its middleware, and return a client.

    Args:
        app: The application of any framework, after `install`.
        peer: The address of the client.
        started: Whether the service's resources are opened.
    """
    asgi = module("chassis.app").asgi_app(app)
    with ExitStack() as opened:
        pause = _TracingPause()
        opened.callback(pause.end)
        portal = opened.enter_context(start_blocking_portal("asyncio"))
        if started:
            opened.enter_context(portal.wrap_async_context_manager(_lifespan(asgi)))
        transport = _Transport(asgi, peer, portal)
        client = opened.enter_context(httpx.Client(transport=transport, base_url="http://localhost"))
        opened.callback(pause.begin)
        yield client


class _TracingPause:
    """Pauses coverage, or a debugger, while the threads of a client end.

    With greenlets, CPython 3.11 can repeat one instruction forever if two threads end at the same time while a third
    one is traced (python/cpython#118484).
    """

    def __init__(self) -> None:
        self._trace = sys.gettrace()

    def begin(self) -> None:
        self._trace = sys.gettrace()
        sys.settrace(None)

    def end(self) -> None:
        sys.settrace(self._trace)
        self._enter_frame()

    def _enter_frame(self) -> None:
        """Enter a frame, because `sys.settrace` takes effect at the next call."""


class _Transport(httpx.BaseTransport):
    """Sends the requests of a synchronous client to an event loop in another thread."""

    def __init__(self, asgi: Any, peer: str, portal: BlockingPortal) -> None:
        self._asgi = httpx.ASGITransport(asgi, raise_app_exceptions=False, client=(peer, 50_000))
        self._portal = portal

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._portal.call(self._send, request)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        body = _Body([bytes(part) for part in request.stream])
        sent = httpx.Request(request.method, request.url, headers=request.headers, stream=body)
        response = await self._asgi.handle_async_request(sent)
        content = httpx.ByteStream(await response.aread())
        await asyncio.sleep(0)  # the access log writes its entries in the next turn of the event loop
        return httpx.Response(response.status_code, headers=response.headers, stream=content)


class _Body(httpx.AsyncByteStream):
    """A request body in parts."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part


@asynccontextmanager
async def _lifespan(asgi: Any) -> AsyncIterator[None]:
    """Start and stop an application as a server does (ASGI lifespan protocol)."""
    to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    running = asyncio.create_task(asgi({"type": "lifespan", "asgi": {"version": "3.0"}}, to_app.get, from_app.put))
    for phase in ("startup", "shutdown"):
        await to_app.put({"type": f"lifespan.{phase}"})
        message = await from_app.get()
        assert message["type"] == f"lifespan.{phase}.complete", message
        if phase == "startup":
            yield
    await running
