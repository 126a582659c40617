"""Calls the synchronous cache from a test. Its health check runs on an event loop, as in the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from ..package import module


class CacheCalls:
    """A cache, called from any thread."""

    def __init__(self, portal: BlockingPortal, chassis: Any) -> None:
        cache = chassis.get(module("chassis.cache.sync").Cache)
        self.get, self.set, self.delete = cache.get, cache.set, cache.delete
        self.get_or_compute, self._store = cache.get_or_compute, cache.store
        self.chassis = chassis
        self.check = next(check for check in chassis.health.checks if check.name == "cache")
        self._portal = portal

    def health(self) -> Any:
        return self.check.evaluate(self._portal.call(self.check.probe))

    def set_before_next_get_returns(self, key: str, value: Any) -> None:
        """Cache `value` just after the next lookup in the store was a miss."""
        store, get = self._store, self._store.get

        def late(name: str) -> Any:
            store.get = get
            found = get(name)
            self.set(key, value, 600)
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
    cache_feature = module("chassis.cache.sync").CacheFeature
    chassis = module("chassis.app").Chassis(settings)
    for feature in module("chassis.features").FEATURES:
        if isinstance(feature, cache_feature) or getattr(feature, "__name__", "").endswith(".redis"):
            feature.install(chassis)
    return chassis
