"""The acceptance of the service: a plan over HTTP, one id in header, body, log and trace, and the probes."""

from __future__ import annotations

from pathlib import Path

import yaml

from ..chassis.opentelemetry import serving_collector
from ..chassis.process import serving
from ..package import PACKAGE, ROOT

PLAN = {"athlete": "Fanny", "goal": "Marathon", "starts_on": "2026-01-05", "ends_on": "2026-03-29"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"X-Request-ID": "race-day-1", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


def test_ids_of_a_request_are_in_header_body_log_and_trace(migrated: None, folder: Path) -> None:
    """The schedule is slow on purpose. Each probe of the deployment answers."""
    with serving_collector() as collector:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "SCHEDULE_SLOW_MILLISECONDS": "0"}
        settings["OTEL_BSP_SCHEDULE_DELAY"] = "100"  # in milliseconds, instead of 5 seconds
        with serving(folder, PACKAGE, "serve", **settings) as process, process.client() as client:
            plan = client.post("/api/v1/plans", json=PLAN).headers["location"]
            for day, minutes in (("2026-01-06", 40), ("2026-01-10", 90), ("2026-01-13", 50)):
                added = client.post(f"{plan}/workouts", json={"day": day, "minutes": minutes})
                assert added.status_code == 201

            response = client.get(f"{plan}/schedule", headers=HEADERS)
            assert response.json()["weeks"] == [
                {"monday": "2026-01-05", "workouts": 2, "minutes": 130},
                {"monday": "2026-01-12", "workouts": 1, "minutes": 50},
            ]
            assert response.headers["x-request-id"] == "race-day-1"
            finished = process.finished("race-day-1")
            assert (finished["trace_id"], finished["http.route"]) == (TRACE, "/api/v1/plans/{plan_id}/schedule")
            (slow,) = process.events("slow_operation")
            assert (slow["operation"], slow["request_id"], slow["trace_id"]) == ("build_schedule", "race-day-1", TRACE)
            assert slow["level"] == "warning"
            span = collector.named("GET /api/v1/plans/{plan_id}/schedule")
            assert (span.trace_id, span.attributes["request_id"]) == (TRACE, "race-day-1")
            assert span.span_id == finished["span_id"]

            rejected = client.post("/api/v1/plans", json=PLAN | {"ends_on": "2026-01-01"}, headers=HEADERS)
            problem = rejected.json()
            assert (rejected.status_code, problem["request_id"]) == (422, "race-day-1")
            assert problem["errors"] == [
                {"field": "ends_on", "message": "The plan starts on 2026-01-05", "code": "ends_before_start"}
            ]
            assert {"type", "title", "status", "detail", "instance", "error_id", "timestamp"} <= problem.keys()

            for path in probes():
                assert client.get(path).status_code == 200, path


def probes() -> list[str]:
    """Return the paths of the probes in the deployment."""
    deployment = yaml.safe_load((ROOT / "deploy/kubernetes/base/deployment.yaml").read_text(encoding="utf-8"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return [container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
