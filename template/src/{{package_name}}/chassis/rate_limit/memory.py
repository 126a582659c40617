"""Counts requests in the memory of this process; each process has its own counts, and a restart resets them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from ..app import Chassis
from . import Limit, RateLimitResult, limiter
from . import Settings as RateLimitSettings


class Settings(RateLimitSettings):
    """Rate limits in memory"""

    rate_limit_max_clients: int = Field(
        100_000,
        gt=0,
        description="Maximum number of clients per limit. Above it, those with the fewest requests are dropped.",
    )


class MemoryStore:
    """One sliding window per limit. Use it only on the event loop, because it does not lock."""

    unavailable = False

    def __init__(self, max_clients: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_clients = max_clients
        self._clock = clock
        self._windows: dict[str, SlidingWindow] = {}

    def hit(self, client: str, limit: Limit) -> RateLimitResult:
        now = self._clock()
        window = self._windows.get(limit.name)
        if window is None:
            window = self._windows[limit.name] = SlidingWindow(limit, self._max_clients, now)
        return window.hit(client, now)

    def details(self) -> Mapping[str, Any]:
        return {"backend": "memory", "clients": sum(map(len, self._windows.values()))}


class SlidingWindow:
    """The clients of one limit: their requests in the current window and in the previous one."""

    def __init__(self, limit: Limit, max_clients: int, now: float) -> None:
        self._limit = limit
        self._max_clients = max_clients
        self._current: dict[str, int] = {}
        self._previous: dict[str, int] = {}
        self._ends = now - now % limit.seconds + limit.seconds

    def __len__(self) -> int:
        return len(self._current)

    def hit(self, client: str, now: float) -> RateLimitResult:
        """Count one request of a client, unless it is above the limit."""
        limit = self._limit
        if now >= self._ends:
            self._advance(now)
        left_seconds = self._ends - now
        current = self._current.get(client, 0)
        previous = self._previous.get(client, 0)
        free = limit.free(current, previous, left_seconds)
        if free < 1:
            return RateLimitResult(False, 0, limit.wait_seconds(current, previous, left_seconds))
        if not current and len(self._current) >= self._max_clients:
            self._current = _busiest(self._current, self._max_clients * 9 // 10)
        self._current[client] = current + 1
        return RateLimitResult(True, free - 1, left_seconds)

    def _advance(self, now: float) -> None:
        self._previous = self._current if now < self._ends + self._limit.seconds else {}
        self._current = {}
        self._ends = now - now % self._limit.seconds + self._limit.seconds


def _busiest(clients: dict[str, int], limit: int) -> dict[str, int]:
    """Return at most `limit` clients, those with the most requests: new clients do not displace busy ones."""
    least = 1
    while len(clients) > limit:
        clients = {client: sent for client, sent in clients.items() if sent > least}
        least *= 2
    return clients


def install(chassis: Chassis) -> None:
    limiter.install(chassis, MemoryStore(chassis.settings_as(Settings).rate_limit_max_clients))
