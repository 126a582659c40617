"""Metrics for Prometheus (https://prometheus.io), served on a separate port.

Names, units and labels are those of OpenTelemetry's semantic conventions in the spelling of Prometheus. Your own
metrics need no registration: `Counter("orders_total", "Orders.")` of prometheus_client is served too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, disable_created_metrics
from pydantic import Field

from ..app import Chassis
from ..instrumentation import HTTP_METHODS, OTHER, Operation
from ..request_context import RequestContext
from ..settings import BaseChassisSettings, ServiceSettings
from .prometheus_server import MetricsServer

# The threshold of the latency objective in monitoring/slo.yml must be one of them.
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_DATABASE_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
# The maximum number of series per metric. Further combinations of labels are counted together, as `_OTHER`.
MAX_SERIES = 2000

MetricT = TypeVar("MetricT", Counter, Histogram)


class Settings(BaseChassisSettings):
    """Metrics"""

    metrics_host: str = Field("127.0.0.1", description="Address that serves the metrics; keep it private.")
    metrics_port: int = Field(9000, ge=0, le=65535, description="Port that serves the metrics; 0 takes any free port.")


class Series(Generic[MetricT]):
    """The series of a metric: limited, and cached, because finding one costs twice as much as observing it."""

    def __init__(self, metric: MetricT) -> None:
        self._labels: Callable[..., MetricT] = metric.labels
        self._found: dict[tuple[object, ...], MetricT] = {}

    def of(self, *values: object) -> MetricT:
        """Return the series with these label values. None becomes an empty text, and a class becomes its name."""
        found = self._found.get(values)
        return self._add(values) if found is None else found

    def _add(self, values: tuple[object, ...]) -> MetricT:
        if len(self._found) >= MAX_SERIES:
            return self._labels(*[OTHER] * len(values))
        found = self._found[values] = self._labels(*map(_text, values))
        return found


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.__name__ if isinstance(value, type) else str(value)


class RequestMetrics:
    """Observes requests that have ended."""

    def __init__(self, registry: CollectorRegistry) -> None:
        name, description = "http_server_request_duration_seconds", "Duration of HTTP requests."
        labels = ("http_request_method", "http_route", "http_response_status_code", "error_type")
        self._requests = Series(Histogram(name, description, labels, buckets=REQUEST_BUCKETS, registry=registry))
        # WebSockets are counted separately: one may last for hours, which would distort the latency of requests.
        name, description = "websocket_connections_total", "WebSocket connections that have ended."
        self._websockets = Series(Counter(name, description, ("http_route", "error_type"), registry=registry))

    def __call__(self, context: RequestContext) -> None:
        status, error = context.status, context.error
        if status == 101:
            self._websockets.of(context.route, error and type(error)).inc()
            return
        method = context.method if context.method in HTTP_METHODS else OTHER
        kind: object = None
        exemplar = None
        if context.is_failure:
            kind = type(error) if error else status
        if kind or context.trace_flags[-1] in "13579bdf":  # `sampled` (W3C Trace Context, 3.2.2.5.1)
            exemplar = {"trace_id": context.trace_id}
        # The status is 0 if the client disconnected before the response.
        self._requests.of(method, context.route, status or None, kind).observe(context.duration_seconds, exemplar)


class OperationMetrics:
    """Observes calls to databases, to Redis and to other services."""

    def __init__(self, registry: CollectorRegistry) -> None:
        name, description = "db_client_operation_duration_seconds", "Duration of statements and Redis commands."
        database = ("db_system_name", "db_namespace", "db_operation_name", "error_type")
        self._statements = Series(Histogram(name, description, database, buckets=_DATABASE_BUCKETS, registry=registry))
        name, description = "http_client_request_duration_seconds", "Duration of each attempt to call another service."
        http = ("http_request_method", "server_address", "server_port", "http_response_status_code", "error_type")
        self._calls = Series(Histogram(name, description, http, buckets=REQUEST_BUCKETS, registry=registry))

    def __call__(self, operation: Operation) -> None:
        value, error = operation.attributes.get, operation.error and type(operation.error)
        if operation.kind == "db":
            series = self._statements.of(value("db.system.name"), value("db.namespace"), operation.name, error)
        else:
            server = value("server.address"), value("server.port")
            series = self._calls.of(operation.name, *server, value("http.response.status_code"), error)
        series.observe(operation.duration_seconds)


def install(chassis: Chassis) -> None:
    """Record each request and each call to a dependency, and serve the metrics while the service runs."""
    # `_created` metrics add a series to each counter and histogram, and Prometheus does not need them.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    settings, service = chassis.settings_as(Settings), chassis.settings_as(ServiceSettings)
    registry = CollectorRegistry(
        target_info={"service_name": service.service_name, "service_version": service.service_version}
    )
    registry.register(REGISTRY)  # your own metrics, and those of the process and of Python
    chassis.request_observers.append(RequestMetrics(registry))
    chassis.operation_observers.append(OperationMetrics(registry))
    server = MetricsServer(settings.metrics_host, settings.metrics_port, registry, chassis.measurements)
    chassis.lifespans.append(("metrics", server.lifespan))
