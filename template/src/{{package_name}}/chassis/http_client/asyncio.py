"""The asynchronous HTTP client: `add_http_client(...)` in `main.py`, `await http_client(...).get(...)` elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import httpx

from ..app import Chassis
from .client import BaseHttpClient, find


class HttpClient(BaseHttpClient[Awaitable[httpx.Response]]):
    """A client whose calls are awaited."""

    async def request(self, method: str, url: str, *, retry: bool | None = None, **content: Any) -> httpx.Response:
        return await self._request(method, url, retry, content)


def add_http_client(chassis: Chassis, name: str, base_url: str, **options: Any) -> HttpClient:
    """Create the client of another service; `options` are those of `httpx.AsyncClient`, such as `headers`."""
    return HttpClient(chassis, name, base_url, **options)


def http_client(chassis: Chassis, name: str) -> HttpClient:
    """Return the client that was added under this name."""
    return find(chassis, name, HttpClient)
