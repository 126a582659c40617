"""The synchronous cache, and its place in the service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from ..errors import DeadlineExceededError
from ..service import Service
from .check import CacheCheck
from .entries import MISSING, decode, encode, prefix, spread
from .store import Backend, Store


class Cache:
    """Keeps JSON values and bytes. When the store is away nothing is found and nothing kept; no call fails."""

    def __init__(self, store: Store, settings: Any) -> None:
        self.store = store
        self._prefix = prefix(settings)
        self._timeout_seconds: float = settings.request_timeout_seconds
        self._lock = threading.Lock()
        self._flights: dict[str, Future[Any]] = {}

    def get(self, key: str, default: Any = None) -> Any:
        """Return what is kept under `key`, else `default`."""
        value = decode(self.store.get(self._prefix + key))
        return default if value is MISSING else value

    def set(self, key: str, value: Any, ttl_seconds: float, *, jitter: float = 0.0) -> bool:
        """Keep a value for `ttl_seconds`, less up to the share `jitter` of it; return whether it is kept.

        Raises:
            TypeError: the value is neither bytes nor JSON.
        """
        return self.store.set(self._prefix + key, encode(value), spread(ttl_seconds, jitter))

    def delete(self, key: str) -> bool:
        """Forget a value; return whether it was there."""
        return self.store.delete(self._prefix + key)

    def get_or_compute(self, key: str, compute: Callable[[], Any], ttl_seconds: float, *, jitter: float = 0.0) -> Any:
        """Return what is kept, else compute and keep it; in this process a key is computed once however many ask."""
        value = decode(self.store.get(self._prefix + key))
        if value is not MISSING:
            return value
        with self._lock:
            flight = self._flights.get(key)
            own = self._flights[key] = Future[Any]() if flight is None else flight
        if flight is None:
            return self._compute(key, own, lambda: self._kept(key, compute, ttl_seconds, jitter))
        try:
            return flight.result(self._timeout_seconds)
        except TimeoutError:
            if not flight.done():
                raise DeadlineExceededError() from None
            raise

    def _kept(self, key: str, compute: Callable[[], Any], ttl_seconds: float, jitter: float) -> Any:
        value = self.get(key, MISSING)
        if value is MISSING:  # still: no other flight has ended since it was looked for
            value = compute()
            self.set(key, value, ttl_seconds, jitter=jitter)
        return value

    def _compute(self, key: str, flight: Future[Any], work: Callable[[], Any]) -> Any:
        """Do the work and tell those who wait how it ended, whatever ended it."""
        try:
            value = work()
        except BaseException as error:
            flight.set_exception(error)
            raise
        else:
            flight.set_result(value)
            return value
        finally:
            with self._lock:
                self._flights.pop(key, None)

    @contextmanager
    def lifespan(self) -> Iterator[None]:
        """Give the connections back at the end. The service starts without its cache too."""
        try:
            yield
        finally:
            self.store.close()


class CacheFeature:
    """The feature for `FEATURES`: this cache, kept there."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def install(self, service: Service) -> None:
        cache = Cache(self._backend.open_store(service.settings), service.settings)
        service.provide(cache)
        service.health.add(CacheCheck(cache.store))
        service.lifespans.append(("cache", cache.lifespan))
