"""Runs the checks in threads, side by side; a hundred probes at once cost one run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..service import Service
from .monitor import Monitor
from .registry import Result


class ThreadMonitor(Monitor):
    """Health for WSGI applications."""

    def __init__(self, service: Service, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(service, clock)
        self._one_flight = threading.Lock()

    def answer(self, path: str) -> tuple[int, bytes]:
        """Return status and body for one of `PATHS`."""
        return self.without_checks(path) or self.with_checks(path, self.results())

    def results(self) -> list[Result]:
        kept = self.kept()
        if kept is not None:
            return kept
        with self._one_flight:
            # Whoever waited for the lock finds the results of the run it waited for.
            kept = self.kept()
            return self._run_all() if kept is None else kept

    def _run_all(self) -> list[Result]:
        began = time.monotonic()
        running = [(check, self.start(check)) for check in self.service.health.checks]
        results = []
        for check, future in running:
            left_seconds = began + self.limit_seconds(check) - time.monotonic()
            try:
                run = future.result(timeout=max(0.0, left_seconds))
            except TimeoutError:
                run = self.late(check)
            results.append(self.result(check, run))
        return self.keep(results)
