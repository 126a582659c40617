"""Compares a load test with the objectives in monitoring/slo.yml: `make load`. It exits with 1 if one is missed."""

from pathlib import Path
from typing import Any

import yaml
from locust import events

OBJECTIVES = Path(__file__).resolve().parents[1] / "monitoring/slo.yml"


@events.quitting.add_listener
def evaluate(environment: Any, **_: Any) -> None:
    """Print one line per objective and set the exit code."""
    slo = yaml.safe_load(OBJECTIVES.read_text(encoding="utf-8"))
    total = environment.stats.total
    environment.process_exit_code = 1
    if not total.num_requests:
        print("No request was sent. Check that load/scenario.py has a task, and that the service is running.")
        return
    limited = sum(error.occurrences for error in environment.stats.errors.values() if "429" in str(error.error))
    if limited:
        print(f"{limited} requests got 429. Set RATE_LIMIT_ENABLED=false in the service under test.")
    succeeded = 100 * (1 - total.fail_ratio)
    availability, latency = slo["availability"]["objective"], slo["latency"]
    milliseconds = total.get_response_time_percentile(latency["objective"] / 100)
    threshold_ms = latency["threshold_seconds"] * 1000
    results = {
        f"availability: {succeeded:.2f} % of {total.num_requests} requests succeeded, objective {availability} %": (
            succeeded >= availability
        ),
        f"latency: {latency['objective']} % within {milliseconds:.0f} ms, objective {threshold_ms:.0f} ms": (
            milliseconds <= threshold_ms
        ),
    }
    for line, is_met in results.items():
        print(f"{'met   ' if is_met else 'MISSED'} {line}")
    environment.process_exit_code = 0 if all(results.values()) else 1
