"""Calls the asynchronous cache from a test, which is synchronous."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from anyio import to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

from ..package import module


class CacheCalls:
    """A cache, called from any thread."""

    def __init__(self, portal: BlockingPortal, service: Any) -> None:
        self._portal = portal
        self._cache = service.get(module("chassis.cache.asgi").Cache)
        self.check = next(check for check in service.health.checks if check.name == "cache")

    def get(self, key: str, default: Any = None) -> Any:
        return self._portal.call(self._cache.get, key, default)

    def set(self, key: str, value: Any, ttl_seconds: float, **options: float) -> Any:
        return self._portal.call(partial(self._cache.set, key, value, ttl_seconds, **options))

    def delete(self, key: str) -> Any:
        return self._portal.call(self._cache.delete, key)

    def get_or_compute(self, key: str, compute: Callable[[], Any], ttl_seconds: float) -> Any:
        return self._portal.call(self._cache.get_or_compute, key, partial(to_thread.run_sync, compute), ttl_seconds)

    def ping(self) -> Any:
        return self._portal.call(self.check.measure)

    def keep_before_next_look_ends(self, key: str, value: Any) -> None:
        """Have `value` kept just after the next look at the store has found nothing."""
        store, look = self._cache.store, self._cache.store.get

        async def early(name: str) -> Any:
            store.get = look
            found = await look(name)
            await self._cache.set(key, value, 600)
            return found

        store.get = early


@contextmanager
def open_cache(settings: Any) -> Iterator[CacheCalls]:
    """Open the cache of a service, and close it as the service does."""
    feature = module("chassis.cache.asgi").CacheFeature
    service = module("chassis.service").Service(settings)
    with start_blocking_portal("asyncio") as portal:
        portal.call(_install, feature, service)
        ((_, lifespan),) = service.lifespans
        with portal.wrap_async_context_manager(lifespan()):
            yield CacheCalls(portal, service)


async def _install(feature: type, service: Any) -> None:
    (chosen,) = (found for found in module("chassis.features").FEATURES if isinstance(found, feature))
    chosen.install(service)
