"""Calls the asynchronous cache from a test, which is synchronous."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import isawaitable
from typing import Any

from anyio import to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

from ..package import module


class CacheCalls:
    """A cache, called from any thread."""

    def __init__(self, portal: BlockingPortal, chassis: Any) -> None:
        self._portal = portal
        self._cache = chassis.get(module("chassis.cache.asyncio").Cache)
        self.chassis = chassis
        self.check = next(check for check in chassis.health.checks if check.name == "cache")

    def get(self, key: str, default: Any = None) -> Any:
        return self._portal.call(self._cache.get, key, default)

    def set(self, key: str, value: Any, ttl_seconds: float, **options: float) -> Any:
        return self._portal.call(partial(self._cache.set, key, value, ttl_seconds, **options))

    def delete(self, key: str) -> Any:
        return self._portal.call(self._cache.delete, key)

    def get_or_compute(self, key: str, compute: Callable[[], Any], ttl_seconds: float) -> Any:
        return self._portal.call(self._cache.get_or_compute, key, partial(to_thread.run_sync, compute), ttl_seconds)

    def health(self) -> Any:
        return self.check.evaluate(self._portal.call(self.check.probe))

    def set_before_next_get_returns(self, key: str, value: Any) -> None:
        """Cache `value` just after the next lookup in the store was a miss."""
        store, get = self._cache.store, self._cache.store.get

        async def late(name: str) -> Any:
            store.get = get
            found = get(name)
            found = await found if isawaitable(found) else found
            await self._cache.set(key, value, 600)
            return found

        store.get = late


@contextmanager
def open_cache(settings: Any) -> Iterator[CacheCalls]:
    """Open the cache of a service with these settings, and close it as the service does."""
    with start_blocking_portal("asyncio") as portal:
        chassis = portal.call(_install, settings)
        with portal.wrap_async_context_manager(chassis.open_lifespans()):
            yield CacheCalls(portal, chassis)


async def _install(settings: Any) -> Any:
    cache_feature = module("chassis.cache.asyncio").CacheFeature
    chassis = module("chassis.app").Chassis(settings)
    for feature in module("chassis.features").FEATURES:
        if isinstance(feature, cache_feature) or getattr(feature, "__name__", "").endswith(".redis"):
            feature.install(chassis)
    return chassis
