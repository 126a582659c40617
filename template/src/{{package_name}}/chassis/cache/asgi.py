"""The asynchronous cache, and its place in the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from ..service import Service
from .check import CacheCheck
from .entries import MISSING, decode, encode, prefix, spread
from .store import AsyncStore, Backend


class Cache:
    """Keeps JSON values and bytes. When the store is away nothing is found and nothing kept; no call fails."""

    def __init__(self, store: AsyncStore, settings: Any) -> None:
        self.store = store
        self._prefix = prefix(settings)
        self._timeout_seconds: float = settings.request_timeout_seconds
        self._flights: dict[str, asyncio.Task[tuple[Any, Exception | None]]] = {}

    async def get(self, key: str, default: Any = None) -> Any:
        """Return what is kept under `key`, else `default`."""
        value = decode(await self.store.get(self._prefix + key))
        return default if value is MISSING else value

    async def set(self, key: str, value: Any, ttl_seconds: float, *, jitter: float = 0.0) -> bool:
        """Keep a value for `ttl_seconds`, less up to the share `jitter` of it; return whether it is kept.

        Raises:
            TypeError: the value is neither bytes nor JSON.
        """
        return await self.store.set(self._prefix + key, encode(value), spread(ttl_seconds, jitter))

    async def delete(self, key: str) -> bool:
        """Forget a value; return whether it was there."""
        return await self.store.delete(self._prefix + key)

    async def get_or_compute(
        self, key: str, compute: Callable[[], Awaitable[Any]], ttl_seconds: float, *, jitter: float = 0.0
    ) -> Any:
        """Return what is kept, else compute and keep it; in this process a key is computed once however many ask."""
        value = decode(await self.store.get(self._prefix + key))
        if value is not MISSING:
            return value
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._compute(key, compute, ttl_seconds, jitter))
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        # Whoever asked first may give up; the others still wait for this.
        value, error = await asyncio.shield(flight)
        if error is not None:
            raise error
        return value

    async def _compute(
        self, key: str, compute: Callable[[], Awaitable[Any]], ttl_seconds: float, jitter: float
    ) -> tuple[Any, Exception | None]:
        """Return what was computed, or why not: raised here, an error would be lost when nobody waits any more."""
        try:
            value = await self.get(key, MISSING)
            if value is MISSING:  # still: no other flight has ended since it was looked for
                async with asyncio.timeout(self._timeout_seconds):
                    value = await compute()
                await self.set(key, value, ttl_seconds, jitter=jitter)
        except Exception as error:
            return None, error
        return value, None

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """End what is still being computed, and give the connections back. The service starts without its cache too."""
        try:
            yield
        finally:
            for flight in list(self._flights.values()):
                flight.cancel()
            await self.store.close()


class CacheFeature:
    """The feature for `FEATURES`: this cache, kept there."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def install(self, service: Service) -> None:
        cache = Cache(self._backend.open_async_store(service.settings), service.settings)
        service.provide(cache)
        service.health.add(CacheCheck(cache.store))
        service.lifespans.append(("cache", cache.lifespan))
