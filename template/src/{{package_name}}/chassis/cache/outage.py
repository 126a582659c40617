"""Leaves a store alone that does not answer."""

from __future__ import annotations

import time

import structlog

# In seconds. One call is the next try, so a store that is away costs that one call its time-out and all others nothing.
PAUSE_SECONDS = 0.5

log = structlog.get_logger(__name__)


class Outage:
    """Keeps calls away from a store that does not answer, but for one try every `PAUSE_SECONDS`."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._since: float | None = None
        self._next_try = 0.0
        self.failed_calls = 0

    @property
    def lasts(self) -> bool:
        return self._since is not None

    def may_try(self) -> bool:
        if self._since is None:
            return True
        now = time.monotonic()
        if now < self._next_try:
            return False
        self._next_try = now + PAUSE_SECONDS
        return True

    def failed(self, cause: BaseException) -> None:
        self.failed_calls += 1
        self._next_try = time.monotonic() + PAUSE_SECONDS
        if self._since is None:
            self._since = time.monotonic()
            log.warning("store_away", store=self._store, cause=type(cause).__name__)

    def succeeded(self) -> None:
        since, self._since = self._since, None
        if since is not None:
            log.info("store_back", store=self._store, away_seconds=round(time.monotonic() - since, 3))
