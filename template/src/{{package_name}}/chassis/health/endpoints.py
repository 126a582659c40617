"""The four health endpoints. The middleware answers them itself, without routes, limits or log entries."""

from __future__ import annotations

from ..formats import to_json, utc_now
from ..lifecycle import Lifecycle
from ..settings import ServiceSettings
from .checks import HealthRegistry, Result, overall
from .monitor import HealthMonitor

PATHS = frozenset({"/health", "/health/live", "/health/started", "/health/ready"})
HEADERS = {"content-type": "application/json", "cache-control": "no-store"}


class HealthEndpoints:
    """Status and body for each of `PATHS`."""

    def __init__(
        self, registry: HealthRegistry, monitor: HealthMonitor, lifecycle: Lifecycle, settings: ServiceSettings
    ) -> None:
        self._registry = registry
        self._monitor = monitor
        self._lifecycle = lifecycle
        self._settings = settings

    async def respond(self, path: str) -> tuple[int, bytes]:
        """Return status and JSON body. Liveness and startup never wait for checks, readiness only for critical ones."""
        if path == "/health/live":
            return 200, b'{"status":"alive"}'
        if path == "/health/started":
            return (200, b'{"status":"started"}') if self._lifecycle.started else (503, b'{"status":"starting"}')
        if path == "/health/ready":
            return await self._ready()
        return self._report(await self._monitor.results(self._registry.checks))

    async def _ready(self) -> tuple[int, bytes]:
        if self._lifecycle.draining:
            return 503, b'{"status":"draining"}'
        if not self._lifecycle.started:
            return 503, b'{"status":"starting"}'
        results = await self._monitor.results(self._registry.critical_checks)
        if overall(results) == "unhealthy":
            return 503, b'{"status":"not ready"}'
        return 200, b'{"status":"ready"}'

    def _report(self, results: list[Result]) -> tuple[int, bytes]:
        settings, lifecycle = self._settings, self._lifecycle
        status = overall(results)
        started_at = lifecycle.started_at
        body = {
            "status": status,
            "timestamp": utc_now(),
            "version": f"{settings.service_name}@v{settings.service_version}",
            "environment": settings.environment,
            "started_at": started_at.isoformat().replace("+00:00", "Z") if started_at else None,
            "uptime_seconds": round(lifecycle.uptime_seconds, 3),
            "checks": {result.check.name: result.as_dict() for result in results},
        }
        return (503 if status == "unhealthy" else 200), to_json(body, str)
