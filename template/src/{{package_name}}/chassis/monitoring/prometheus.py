"""Metrics for Prometheus (https://prometheus.io), served on a separate port.

Names, units and labels are those of OpenTelemetry's semantic conventions in the spelling of Prometheus. Your own
metrics need no registration: `Counter("orders_total", "Orders.")` of prometheus_client is served too.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import REGISTRY, CollectorRegistry, Histogram, disable_created_metrics
from pydantic import Field

from ..app import Chassis
from ..instrumentation import Operation
from ..request_context import RequestContext
from ..settings import BaseChassisSettings, ServiceSettings
from .prometheus_server import MetricsServer

# A client may send any method. These are the standard ones (RFC 9110, RFC 5789), the others are `_OTHER`.
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_OTHER = "_OTHER"
_HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_DATABASE_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
# Series per histogram. Further combinations of labels are counted together, under `_OTHER`.
_MAX_SERIES = 2000


class Settings(BaseChassisSettings):
    """Metrics"""

    metrics_host: str = Field("127.0.0.1", description="Address that serves the metrics; keep it private.")
    metrics_port: int = Field(9000, ge=0, le=65535, description="Port that serves the metrics; 0 takes any free port.")


class Durations:
    """A histogram of durations that caches its series, because finding one costs twice as much as its observation."""

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        description: str,
        attributes: Sequence[str],
        buckets: Sequence[float],
    ) -> None:
        labels = [attribute.replace(".", "_") for attribute in attributes]
        self._histogram = Histogram(name, description, labels, buckets=buckets, registry=registry)
        self._others = [_OTHER] * len(labels)
        self._series: dict[tuple[object, ...], Histogram] = {}

    def series(self, *values: object) -> Histogram:
        """Return the series with these values of the attributes. None is an empty value, and a class is its name."""
        found = self._series.get(values)
        return self._add(values) if found is None else found

    def _add(self, values: tuple[object, ...]) -> Histogram:
        if len(self._series) >= _MAX_SERIES:
            return self._histogram.labels(*self._others)
        found = self._series[values] = self._histogram.labels(*map(_text, values))
        return found


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.__name__ if isinstance(value, type) else str(value)


class RequestDurations:
    """Observes requests that have ended."""

    def __init__(self, registry: CollectorRegistry) -> None:
        name, description = "http_server_request_duration_seconds", "Duration of HTTP requests."
        attributes = ("http.request.method", "http.route", "http.response.status_code", "error.type")
        self._series = Durations(registry, name, description, attributes, _HTTP_BUCKETS).series

    def __call__(self, context: RequestContext) -> None:
        method = context.method if context.method in _METHODS else _OTHER
        status = context.status or None  # None if the client disconnected before the response
        error: object = None
        exemplar = None
        if context.status >= 500:
            error = context.status if context.error is None else type(context.error)
        if error or context.trace_flags[-1] in "13579bdf":  # the flag `sampled` (W3C Trace Context, 3.2.2.5.1)
            exemplar = {"trace_id": context.trace_id}
        self._series(method, context.route, status, error).observe(context.duration_seconds, exemplar)


class OperationDurations:
    """Observes calls to databases, to Redis and to other services."""

    def __init__(self, registry: CollectorRegistry) -> None:
        database = ("db.system.name", "db.namespace", "db.operation.name")
        http = ("http.request.method", "server.address", "server.port", "http.response.status_code")
        self._attributes = {"db": database, "http": http}
        durations = Durations(
            registry,
            "db_client_operation_duration_seconds",
            "Duration of statements, and of commands of Redis.",
            (*database, "error.type"),
            _DATABASE_BUCKETS,
        )
        calls = Durations(
            registry,
            "http_client_request_duration_seconds",
            "Duration of calls to other services; each try counts.",
            (*http, "error.type"),
            _HTTP_BUCKETS,
        )
        self._series = {"db": durations.series, "http": calls.series}

    def __call__(self, operation: Operation) -> None:
        values = map(operation.attributes.get, self._attributes[operation.kind])
        error = operation.error and type(operation.error)
        self._series[operation.kind](*values, error).observe(operation.duration_seconds)


def install(chassis: Chassis) -> None:
    """Record each request and each call to a dependency, and serve the metrics while the service runs."""
    # They are one more series for each counter and histogram, which Prometheus does not need.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    settings, service = chassis.settings_as(Settings), chassis.settings_as(ServiceSettings)
    registry = CollectorRegistry(
        target_info={"service_name": service.service_name, "service_version": service.service_version}
    )
    registry.register(REGISTRY)  # your own metrics, and those of the process and of Python
    chassis.request_observers.append(RequestDurations(registry))
    chassis.operation_observers.append(OperationDurations(registry))
    server = MetricsServer(settings.metrics_host, settings.metrics_port, registry, chassis.measurements)
    chassis.lifespans.append(("metrics", server.lifespan))
