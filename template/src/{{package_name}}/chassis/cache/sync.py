"""The cache for handlers that run in threads: `chassis.get(Cache)`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from ..app import Chassis
from ..errors import DeadlineExceededError
from ..instrumentation import Measurement
from ..web import timeouts
from . import MISSING, Store, StoreModule, decode, encode, with_jitter


class CacheFeature:
    """The feature for `FEATURES`, with the module that stores the values."""

    def __init__(self, module: StoreModule) -> None:
        self._module = module

    def install(self, chassis: Chassis) -> None:
        timeout_seconds = chassis.settings_as(timeouts.Settings).request_timeout_seconds
        cache = Cache(self._module.open_store(chassis, blocking=True), timeout_seconds)
        chassis.provide(cache)
        chassis.measurements.append(cache.measure)


class Cache:
    """Caches JSON values and bytes. No call fails because the store is unavailable: reads then behave like a miss.

    Args:
        store: The store.
        timeout_seconds: How long `get_or_compute` waits for another thread's computation.
    """

    def __init__(self, store: Store, timeout_seconds: float) -> None:
        self.store = store
        self._timeout_seconds = timeout_seconds
        self._hits = self._misses = 0
        self._lock = threading.Lock()
        self._running: dict[str, Future[Any]] = {}

    def measure(self) -> Iterable[Measurement]:
        """Return the number of lookups."""
        for result, count in (("hit", self._hits), ("miss", self._misses)):
            yield Measurement("cache.lookups", "Lookups in the cache.", count, {"result": result}, kind="counter")

    def get(self, key: str, default: Any = None) -> Any:
        """Return the cached value, or `default` if there is none."""
        value = self._lookup(key)
        if value is MISSING:
            self._misses += 1
            return default
        self._hits += 1
        return value

    def _lookup(self, key: str) -> Any:
        return decode(self.store.get(key))

    def set(self, key: str, value: Any, ttl_seconds: float, *, jitter: float = 0.0) -> bool:
        """Cache a value and return whether that succeeded.

        Args:
            key: The name of the value.
            value: Bytes, or anything that JSON can hold.
            ttl_seconds: How long the value is valid.
            jitter: The share of that time (0 to below 1) by which it is randomly shortened.

        Raises:
            TypeError: The value is neither bytes nor JSON.
        """
        return bool(self.store.set(key, encode(value), with_jitter(ttl_seconds, jitter)))

    def delete(self, key: str) -> bool:
        """Delete a cached value and return whether it existed.

        A computation that is running in this process may have read the old data, so its value is not cached.
        """
        with self._lock:
            self._running.pop(key, None)
        return bool(self.store.delete(key))

    def get_or_compute(self, key: str, compute: Callable[[], Any], ttl_seconds: float, *, jitter: float = 0.0) -> Any:
        """Return the cached value, or compute and cache it. Concurrent callers of this process share one computation.

        Raises:
            DeadlineExceededError: Another thread has computed the value for longer than a request may take.
            Exception: The exception of `compute` reaches every caller and is not cached.
        """
        value = self.get(key, MISSING)
        if value is not MISSING:
            return value
        with self._lock:
            running = self._running.get(key)
            if running is None:
                own = self._running[key] = Future[Any]()
        if running is None:
            return self._compute(key, own, compute, ttl_seconds, jitter)
        try:
            return running.result(self._timeout_seconds)
        except TimeoutError:
            if not running.done():
                raise DeadlineExceededError() from None
            raise

    def _compute(
        self, key: str, future: Future[Any], compute: Callable[[], Any], ttl_seconds: float, jitter: float
    ) -> Any:
        """Compute and cache a value, and pass it or the exception to the waiting threads."""
        try:
            # Another computation may have ended between the caller's lookup and this one.
            value = self._lookup(key)
            if value is MISSING:
                value = compute()
                if self._running.get(key) is future:
                    self.set(key, value, ttl_seconds, jitter=jitter)
        except BaseException as error:
            future.set_exception(error)
            raise
        else:
            future.set_result(value)
            return value
        finally:
            with self._lock:
                if self._running.get(key) is future:
                    del self._running[key]
