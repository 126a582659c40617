"""The cache for handlers on the event loop: `chassis.get(Cache)`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Any

from ..app import Chassis
from ..instrumentation import Measurement
from ..web import timeouts
from . import MISSING, Store, StoreModule, decode, encode, with_jitter


class CacheFeature:
    """The feature for `FEATURES`, with the module that stores the values."""

    def __init__(self, module: StoreModule) -> None:
        self._module = module

    def install(self, chassis: Chassis) -> None:
        timeout_seconds = chassis.settings_as(timeouts.Settings).request_timeout_seconds
        cache = Cache(self._module.open_store(chassis, blocking=False), timeout_seconds)
        chassis.provide(cache)
        chassis.lifespans.append(("cache", cache.lifespan))
        chassis.measurements.append(cache.measure)


class Cache:
    """Caches JSON values and bytes. No call fails because the store is unavailable: reads then behave like a miss.

    Args:
        store: The store.
        timeout_seconds: How long `get_or_compute` may compute a value.
    """

    def __init__(self, store: Store, timeout_seconds: float) -> None:
        self.store = store
        self._timeout_seconds = timeout_seconds
        self._hits = self._misses = 0
        self._running: dict[str, asyncio.Task[tuple[Any, Exception | None]]] = {}

    def measure(self) -> Iterable[Measurement]:
        """Return the number of lookups."""
        for result, count in (("hit", self._hits), ("miss", self._misses)):
            yield Measurement("cache.lookups", "Lookups in the cache.", count, {"result": result}, kind="counter")

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the cached value, or `default` if there is none."""
        value = await self._lookup(key)
        if value is MISSING:
            self._misses += 1
            return default
        self._hits += 1
        return value

    async def _lookup(self, key: str) -> Any:
        return decode(await _result(self.store.get(key)))

    async def set(self, key: str, value: Any, ttl_seconds: float, *, jitter: float = 0.0) -> bool:
        """Cache a value and return whether that succeeded.

        Args:
            key: The name of the value.
            value: Bytes, or anything that JSON can hold.
            ttl_seconds: How long the value is valid.
            jitter: The share of that time (0 to below 1) by which it is randomly shortened.

        Raises:
            TypeError: The value is neither bytes nor JSON.
        """
        return bool(await _result(self.store.set(key, encode(value), with_jitter(ttl_seconds, jitter))))

    async def delete(self, key: str) -> bool:
        """Delete a cached value and return whether it existed.

        A computation that is running in this process may have read the old data, so its value is not cached.
        """
        self._running.pop(key, None)
        return bool(await _result(self.store.delete(key)))

    async def get_or_compute(
        self, key: str, compute: Callable[[], Awaitable[Any]], ttl_seconds: float, *, jitter: float = 0.0
    ) -> Any:
        """Return the cached value, or compute and cache it. Concurrent callers of this process share one computation.

        Raises:
            Exception: The exception of `compute` reaches every caller and is not cached.
        """
        value = await self.get(key, MISSING)
        if value is not MISSING:
            return value
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._compute(key, compute, ttl_seconds, jitter))
            self._running[key] = task
            task.add_done_callback(lambda done: self._running.get(key) is done and self._running.pop(key))
        # The first caller may be cancelled; the others still wait for the computation.
        value, error = await asyncio.shield(task)
        if error is not None:
            raise error
        return value

    async def _compute(
        self, key: str, compute: Callable[[], Awaitable[Any]], ttl_seconds: float, jitter: float
    ) -> tuple[Any, Exception | None]:
        """Return the value or the error, because asyncio would log a raised exception if no caller waits any more."""
        try:
            # Another computation may have ended between the caller's lookup and this task.
            value = await self._lookup(key)
            if value is MISSING:
                async with asyncio.timeout(self._timeout_seconds):
                    value = await compute()
                if self._running.get(key) is asyncio.current_task():
                    await self.set(key, value, ttl_seconds, jitter=jitter)
        except Exception as error:
            return None, error
        return value, None

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Cancel running computations at shutdown."""
        try:
            yield
        finally:
            for task in list(self._running.values()):
                task.cancel()


async def _result(returned: Any) -> Any:
    return await returned if isawaitable(returned) else returned
