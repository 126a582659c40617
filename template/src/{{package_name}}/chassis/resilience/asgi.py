"""The asynchronous HTTP client: `add_http_client(...)` in `main.py`, `await http_client(...).get(...)` elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from ..service import Service
from .http_client import MAX_REDIRECTS, BaseHttpClient, HttpClients, judged, meaning, options


class HttpClient(BaseHttpClient[Awaitable[httpx.Response]]):
    """A client whose calls are awaited."""

    def __init__(self, service: Service, name: str, base_url: str, **chosen: Any) -> None:
        super().__init__(service, name, base_url)
        self._client = httpx.AsyncClient(**options(service.settings, base_url, chosen))

    async def request(self, method: str, url: str, *, retry: bool | None = None, **content: Any) -> httpx.Response:
        policy = self._retry_for(method, retry, content)
        try:
            return await policy.call_async(self._try, self._ends(), method, url, content)
        except httpx.HTTPError as error:
            raise meaning(error) from error

    async def _try(self, ends: float, method: str, url: str, content: dict[str, Any]) -> httpx.Response:
        request = self._prepared(self._client.build_request(method, url, **content))
        with self.breaker.guard():
            try:
                async with asyncio.timeout(self._seconds_for(ends)):
                    return judged(await self._send(request))
            except TimeoutError:
                raise httpx.ReadTimeout("no whole answer in time", request=request) from None

    async def _send(self, request: httpx.Request) -> httpx.Response:
        response = await self._client.send(request)
        for _ in range(MAX_REDIRECTS):
            following = self._redirected(response)
            if following is None:
                break
            response = await self._client.send(following)
        return response

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Give the connections back at the end."""
        try:
            yield
        finally:
            await self._client.aclose()


def add_http_client(service: Service, name: str, base_url: str, **chosen: Any) -> HttpClient:
    """Make the client of another service; `chosen` is what `httpx.AsyncClient` takes (`headers`, `auth`, `verify`)."""
    client = HttpClient(service, name, base_url, **chosen)
    service.get_or_provide(HttpClients).add(service, client)
    return client


def http_client(service: Service, name: str) -> HttpClient:
    """Return the client that was added under this name."""
    found: HttpClient = service.get_or_provide(HttpClients)[name]
    return found
