"""Probes the health of a service many times a second, each path on a separate connection."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

LIVE, READY, HEALTH = "/health/live", "/health/ready", "/health"
# A route that needs a token.
API = "/api/v1/notes"
WELL = ("ready", "healthy")
UNWELL: dict[str, tuple[str, ...]] = {READY: ("not ready",), HEALTH: ("unhealthy",)}
PAUSE_SECONDS = 0.07
HANG_SECONDS = 10


@dataclass(frozen=True)
class Probe:
    """One response of a health path, by the monotonic clock; status 0 means no response.

    `open` are the checks whose circuit is not closed.
    """

    at: float
    seconds: float
    path: str
    status: int
    said: str
    open: tuple[str, ...]

    @property
    def until(self) -> float:
        return self.at + self.seconds


class Watch:
    """Runs the probes and stores their results. With a token, a route is probed with it as well."""

    def __init__(self, url: str, token: str = "") -> None:
        self._address = urlsplit(url).netloc
        self._paths = [LIVE, READY, HEALTH, *([API] if token else [])]
        self._headers = {"authorization": f"Bearer {token}"}
        self._stop = threading.Event()
        self.heard: list[Probe] = []

    def of(self, path: str, since: float = 0.0) -> list[Probe]:
        return [probe for probe in self.heard if probe.path == path and probe.at >= since]

    def first(self, path: str, said: tuple[str, ...], since: float) -> float | None:
        """Return the seconds from `since` until a path first reported one of these states."""
        return next((probe.until - since for probe in self.of(path, since) if probe.said in said), None)

    def well(self) -> bool:
        """Return whether the last probes found the service ready and healthy."""
        return all(probes and probes[-1].said in WELL for probes in map(self.of, (READY, HEALTH)))

    def _probe(self, path: str) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=HANG_SECONDS)
        while not self._stop.wait(PAUSE_SECONDS):
            at, status = time.monotonic(), 0
            said: dict[str, Any] = {}
            try:
                connection.request("GET", path, headers=self._headers if path == API else {})
                answer = connection.getresponse()
                status, said = answer.status, json.loads(answer.read())
            except (OSError, http.client.HTTPException):
                connection.close()
            checks = said.get("checks", {}).items()
            circuits = tuple(name for name, one in checks if one["details"].get("state", "closed") != "closed")
            self.heard.append(Probe(at, time.monotonic() - at, path, status, said.get("status", ""), circuits))

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._probe, args=(path,), daemon=True) for path in self._paths]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(HANG_SECONDS + 1)
