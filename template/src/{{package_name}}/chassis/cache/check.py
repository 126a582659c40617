"""What the health report says of the cache. It is not critical: without it the service is slower, not dead."""

from __future__ import annotations

from typing import Any

from ..health.registry import Check, Outcome
from .store import AsyncStore, Store


class CacheCheck(Check):
    """Asks the store; while that is away everything is computed, and nobody is refused."""

    def __init__(self, store: Store | AsyncStore) -> None:
        self._store = store
        super().__init__("cache", store.ping)

    def judge(self, measured: Any) -> Outcome:
        return Outcome("error", "cannot be reached", measured) if self._store.away else Outcome(details=measured)
