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
        self.get_or_compute = cache.get_or_compute
        self.check = next(check for check in service.health.checks if check.name == "cache")
        self.ping = self.check.measure


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
