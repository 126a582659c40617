"""The life of the process: starting, started, draining. The probes and the server both look here."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

log = structlog.get_logger(__name__)


class Lifecycle:
    """Where the process stands; `opening` and `draining` are plain attributes because every request reads them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self.started_at: datetime | None = None
        # The server listens already, and what the service depends on is not open yet. A server that opens first, or an
        # application without a server, never says so.
        self.opening = False
        self.draining = False

    @property
    def started(self) -> bool:
        return self.started_at is not None

    @property
    def uptime_seconds(self) -> float:
        return self._clock() - self._began

    def mark_started(self) -> None:
        self.started_at = datetime.now(UTC)
        self.opening = False
        log.info("service_started", startup_seconds=round(self.uptime_seconds, 3))

    def drain(self) -> None:
        """From now on readiness answers 503 and connections are closed after their answer."""
        if not self.draining:
            self.draining = True
            log.info("draining_started")

    def mark_stopped(self) -> None:
        self.started_at = None
        log.info("service_stopped", uptime_seconds=round(self.uptime_seconds, 3))
