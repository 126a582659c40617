"""Sends spans to the collector in the background, so that requests do not wait for it.

If the collector is unavailable, the service writes one log entry per minute, holds a limited number of spans in memory,
and takes at most two seconds longer to shut down.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from ..formats import utc_now
from ..health.checks import CheckFailedError
from .opentelemetry import Settings, pairs, sdk_variables

log = structlog.get_logger(__name__)

_LOG_INTERVAL_SECONDS = 60.0
_SHUTDOWN_SECONDS = 2.0
# The loggers of the SDK that report failed exports and a full queue. They write several entries per batch or span.
_LOGGERS = ("opentelemetry.exporter", "opentelemetry.sdk")


class Pipeline:
    """Moves spans from the provider to the collector while the service runs."""

    def __init__(self, settings: Settings, provider: TracerProvider) -> None:
        self._provider = provider
        self._exporter = _CountingExporter(_new_exporter(settings))

    @contextmanager
    def open(self) -> Iterator[None]:
        """Send spans until the service stops. `trace.get_tracer(...)` then uses the provider, too."""
        with sdk_variables():
            processor = BatchSpanProcessor(self._exporter)
        self._provider.add_span_processor(processor)
        trace.set_tracer_provider(self._provider)
        with _limited_log():
            try:
                yield
            finally:
                _shut_down(processor, self._exporter)

    async def probe(self) -> None:
        """Raise an exception if the last export failed."""
        if self._exporter.is_failing:
            raise CheckFailedError("the collector is unreachable or rejects traces")

    def details(self) -> Mapping[str, Any]:
        """Return the details for the health report."""
        spans = self._exporter
        return {"enabled": True, "sent": spans.sent, "lost": spans.lost, "last_export": spans.last_export}


def _new_exporter(settings: Settings) -> SpanExporter:
    """Return the exporter for the protocol. gRPC is imported only if it is used, because it needs 17 MiB of memory."""
    # gRPC only accepts names in lower case.
    headers = {name.lower(): value for name, value in pairs(settings.otel_exporter_otlp_headers).items()}
    endpoint, timeout = settings.otel_exporter_otlp_endpoint, settings.otel_exporter_otlp_timeout
    if settings.otel_exporter_otlp_protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter(endpoint, headers=headers, timeout=timeout)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

    return HttpExporter(f"{endpoint}/v1/traces", headers=headers, timeout=timeout)


class _CountingExporter(SpanExporter):
    """Counts the spans that were sent and lost, for the health report."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._is_shut_down = False
        self.is_failing = False
        self.sent = self.lost = 0
        self.last_export: str | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._count(len(spans), result is SpanExportResult.SUCCESS)
        return result

    def _count(self, spans: int, is_sent: bool) -> None:
        self.is_failing = not is_sent
        if is_sent:
            self.sent += spans
            self.last_export = utc_now()
        else:
            self.lost += spans

    def shutdown(self) -> None:
        if not self._is_shut_down:
            self._is_shut_down = True
            self._exporter.shutdown()


def _shut_down(processor: BatchSpanProcessor, exporter: SpanExporter) -> None:
    """Send the remaining spans for a limited time. The SDK would wait for half a minute."""
    flush = threading.Thread(target=processor.shutdown, name="traces-flush", daemon=True)
    flush.start()
    flush.join(_SHUTDOWN_SECONDS)
    if flush.is_alive():
        log.warning("traces_lost_at_shutdown")
        exporter.shutdown()


class _LimitedHandler(logging.Handler):
    """Passes on one record per minute, with the number of records that it dropped before."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next = 0.0
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now < self._next:
            self._dropped += 1
            return
        record.dropped_entries, self._dropped = self._dropped, 0
        self._next = now + _LOG_INTERVAL_SECONDS
        logging.getLogger().handle(record)


@contextmanager
def _limited_log() -> Iterator[None]:
    handler = _LimitedHandler()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
