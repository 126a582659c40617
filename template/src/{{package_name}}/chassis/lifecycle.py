"""The lifecycle of the process: starting, started, draining, stopped."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import UTC, datetime

import stamina.instrumentation
import structlog

from .instrumentation import Counter

log = structlog.get_logger(__name__)

# Exit codes of sysexits.h: a dependency is unavailable, and the configuration is missing or invalid.
EX_UNAVAILABLE = 69
EX_CONFIG = 78

# A resource of the service: opened in order before the service has started, closed in reverse order after the drain.
Lifespan = Callable[[], AbstractContextManager[object] | AbstractAsyncContextManager[object]]


class Lifecycle:
    """The state of the process. `opening` and `draining` are plain attributes because every request reads them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self.started_at: datetime | None = None
        # The server already listens, but the resources are not open yet.
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
        """Answer readiness probes with 503 from now on, and close each connection after its response."""
        if not self.draining:
            self.draining = True
            log.info("draining_started")

    def mark_stopped(self) -> None:
        self.started_at = None
        log.info("service_stopped", uptime_seconds=round(self.uptime_seconds, 3))


def flush_stdout() -> None:
    """Flush stdout. If it is closed, redirect it to the null device, because Python would retry and exit with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_RETRIES = Counter("retries", "Retries of an operation.")


def on_retry(details: stamina.instrumentation.RetryDetails) -> None:
    """Count and log a retry. stamina's own hook would log the arguments of the call and the text of the exception."""
    _RETRIES.add(operation=details.name)
    log.warning(
        "retry_scheduled",
        operation=details.name,
        failures=details.retry_num,
        wait_seconds=round(details.wait_for, 3),
        cause=type(details.caused_by).__name__,
    )
