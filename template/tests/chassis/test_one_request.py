"""One failed request can be found everywhere by the ids of its response: log, error tracking, trace and metrics."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import httpx

from .conftest import FAULTS
from .opentelemetry import serving_collector
from .process import serving, until
from .sentry import Sentry, serving_sentry


def test_failed_request_is_in_log_sentry_trace_and_metrics_by_its_ids(folder: Path) -> None:
    with serving_collector() as collector, serving_sentry(Sentry()) as sentry:
        variables = {"SENTRY_DSN": sentry.dsn, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        # Each request is traced, and by OpenTelemetry alone.
        variables |= {"OTEL_TRACES_SAMPLER": "always_on", "SENTRY_TRACES_SAMPLE_RATE": "0"}
        with serving(folder, *FAULTS, **variables) as process:
            response = process.get("/api/here/crash")
            problem, request_id = response.json(), response.headers["x-request-id"]
            entry = process.finished(request_id)
            (failure,) = [line for line in process.lines if line.get("error_id") == problem["error_id"]]
            port = process.events("metrics_listening")[0]["port"]
            openmetrics = {"accept": "application/openmetrics-text; version=1.0.0"}
            metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", headers=openmetrics).text
            process.send(signal.SIGTERM)
            process.exit_code()
        until(lambda: sentry.received("event") and collector.spans)
        (event,) = sentry.received("event")
        (span,) = [span for span in collector.spans if span.attributes.get("request_id") == request_id]
    assert problem["request_id"] == failure["request_id"] == request_id
    assert "RuntimeError" in failure["exception"]
    assert (event["tags"]["request_id"], event["tags"]["error_id"]) == (request_id, problem["error_id"])
    assert span.is_error
    assert (span.trace_id, span.span_id) == (entry["trace_id"], entry["span_id"])
    assert event["contexts"]["trace"]["trace_id"] == entry["trace_id"]
    exemplars = re.findall(r'http_response_status_code="500".*# \{trace_id="(\w+)"\}', metrics)
    assert entry["trace_id"] in exemplars
