"""Calls the synchronous cache from a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..package import module


class CacheCalls:
    """A cache, called from any thread."""

    def __init__(self, service: Any) -> None:
        cache = service.get(module("chassis.cache.wsgi").Cache)
        self.get, self.set, self.delete = cache.get, cache.set, cache.delete
        self.get_or_compute, self._store = cache.get_or_compute, cache.store
        self.check = next(check for check in service.health.checks if check.name == "cache")
        self.ping = self.check.measure

    def keep_before_next_look_ends(self, key: str, value: Any) -> None:
        """Have `value` kept just after the next look at the store has found nothing."""
        store, look = self._store, self._store.get

        def early(name: str) -> Any:
            store.get = look
            found = look(name)
            self.set(key, value, 600)
            return found

        store.get = early


@contextmanager
def open_cache(settings: Any) -> Iterator[CacheCalls]:
    """Open the cache of a service, and close it as the service does."""
    feature = module("chassis.cache.wsgi").CacheFeature
    service = module("chassis.service").Service(settings)
    (chosen,) = (found for found in module("chassis.features").FEATURES if isinstance(found, feature))
    chosen.install(service)
    ((_, lifespan),) = service.lifespans
    with lifespan():
        yield CacheCalls(service)
