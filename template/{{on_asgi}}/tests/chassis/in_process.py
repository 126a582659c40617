"""Talks to an ASGI application in this process, so that a test needs no port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal


@contextmanager
def open_client(app: Any, peer: str = "127.0.0.1", *, started: bool = True) -> Iterator[httpx.Client]:
    """Start an application (or, on request, do not start it) and give a client whose address is `peer`."""
    with start_blocking_portal("asyncio") as portal:
        life = portal.wrap_async_context_manager(_lifespan(app)) if started else nullcontext()
        with life, httpx.Client(transport=_Transport(app, peer, portal), base_url="http://localhost") as client:
            yield client


class _Transport(httpx.BaseTransport):
    """Carries a synchronous client's requests into the application's event loop."""

    def __init__(self, app: Any, peer: str, portal: BlockingPortal) -> None:
        self._asgi = httpx.ASGITransport(app, raise_app_exceptions=False, client=(peer, 50_000))
        self._portal = portal

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._portal.call(self._answer, request)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        body = _Parts([bytes(part) for part in request.stream])
        url = httpx.URL(request.url)
        answer = await self._asgi.handle_async_request(
            httpx.Request(request.method, url, headers=request.headers, stream=body)
        )
        content = httpx.ByteStream(await answer.aread())
        await asyncio.sleep(0)  # what the application put off until the answer was out is done now
        return httpx.Response(answer.status_code, headers=answer.headers, stream=content)


class _Parts(httpx.AsyncByteStream):
    """A body, part by part."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part


@asynccontextmanager
async def _lifespan(app: Any) -> AsyncIterator[None]:
    """Start and stop the application as a server does (ASGI lifespan protocol)."""
    to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    running = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, to_app.get, from_app.put))
    for phase in ("startup", "shutdown"):
        await to_app.put({"type": f"lifespan.{phase}"})
        message = await from_app.get()
        assert message["type"] == f"lifespan.{phase}.complete", message
        if phase == "startup":
            yield
    await running
