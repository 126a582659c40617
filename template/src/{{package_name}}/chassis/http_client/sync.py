"""The synchronous HTTP client: `add_http_client(...)` in `main.py`, `http_client(...).get(...)` elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import cache
from threading import Lock, Thread
from typing import Any, TypeVar

import httpx

from ..app import Chassis
from .client import BaseHttpClient, find

T = TypeVar("T")
_lock = Lock()


class HttpClient(BaseHttpClient[httpx.Response]):
    """A client whose calls block their thread for a limited time.

    The calls run on an event loop in another thread, because the time of a whole call can only be limited there. A
    blocking httpx client limits each read, but a response may arrive one byte at a time.
    """

    def request(self, method: str, url: str, *, retry: bool | None = None, **content: Any) -> httpx.Response:
        return _run(self._request(method, url, retry, content))

    async def aclose(self) -> None:
        await asyncio.to_thread(_run, self._client.aclose())


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the caller's context, so that it logs with the ids of the request, and wait for it."""
    with _lock:
        loop = _event_loop()
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


@cache
def _event_loop() -> asyncio.AbstractEventLoop:
    """Start the event loop of all clients, in a thread, with the first call."""
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, name="http-client", daemon=True).start()
    return loop


def add_http_client(chassis: Chassis, name: str, base_url: str, **options: Any) -> HttpClient:
    """Create the client of another service; `options` are those of `httpx.AsyncClient`, such as `headers`."""
    return HttpClient(chassis, name, base_url, **options)


def http_client(chassis: Chassis, name: str) -> HttpClient:
    """Return the client that was added under this name."""
    return find(chassis, name, HttpClient)
