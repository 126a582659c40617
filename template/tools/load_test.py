"""Compares a load test with the objectives in monitoring/slo.yml: `make load`. It exits with 1 if one is missed."""

import math
import sys
import time
from collections import Counter
from typing import Any

import slo_rules
from locust import events

# The share of requests that may be rejected with 429. With more, the test measures the rate limit and not the service.
MOST_REJECTED = 0.01

# How many responses had each status, and the durations of those that succeeded, because errors are often fast.
statuses: Counter[int] = Counter()
durations_ms: list[float] = []
# The exceptions of tasks. After a failed request, a task may raise one too.
exceptions: list[Exception] = []


@events.init_command_line_parser.add_listener
def add_options(parser: Any, **_: Any) -> None:
    """Add the option that keeps a load test below the rate limit."""
    parser.add_argument("--most-per-minute", type=int, help="Maximum requests per minute of all users together")


@events.init.add_listener
def prepare(environment: Any, **_: Any) -> None:
    """Reject invalid objectives and classes without tasks. With `--most-per-minute`, users pause after each request."""
    slo_rules.load_objectives_and_rules()
    if empty := [client.__name__ for client in environment.user_classes if not client.tasks]:
        sys.exit(f"load/scenario.py: {', '.join(empty)} has no task. Decorate a method with @task.")
    options = environment.parsed_options
    if options.most_per_minute:
        pause_seconds = 60 * options.num_users / options.most_per_minute
        environment.events.request.add_listener(lambda **_: time.sleep(pause_seconds))


@events.request.add_listener
def record(response_time: float, exception: Exception | None, response: Any = None, **_: Any) -> None:
    """Record a request."""
    status = getattr(response, "status_code", 0)
    statuses[status] += 1
    if exception is None and status != 429:
        durations_ms.append(response_time)


@events.user_error.add_listener
def record_exception(exception: Exception, **_: Any) -> None:
    """Record an exception of a task. Locust prints its traceback."""
    exceptions.append(exception)


@events.quitting.add_listener
def evaluate(environment: Any, **_: Any) -> None:
    """Print one line per objective and set the exit code."""
    slo, _ = slo_rules.load_objectives_and_rules()
    total = environment.stats.total
    environment.process_exit_code = 1
    if not total.num_requests:
        print("No request was sent. Check that load/scenario.py has a task, and that the service is running.")
        return
    succeeded = 100 * (1 - total.fail_ratio)
    availability, latency = slo["availability"]["objective"], slo["latency"]
    # With `--most-per-minute`, a test sends so few requests that a single failure would miss the objective.
    most_per_minute = environment.parsed_options.most_per_minute
    tolerated = 1 if most_per_minute else 0
    duration_ms = percentile(latency["objective"])
    threshold_ms = latency["threshold_seconds"] * 1000
    results = {
        f"availability: {succeeded:.2f} % of {total.num_requests} requests succeeded, objective {availability} %": (
            succeeded >= availability or total.num_failures <= tolerated
        ),
        f"latency: {latency['objective']} % of these within {duration_ms:.0f} ms, objective {threshold_ms:.0f} ms": (
            duration_ms <= threshold_ms
        ),
    }
    share = statuses[429] / total.num_requests
    if share:
        remedy = (
            f"Check which limit is below {most_per_minute} requests per minute, and who shares this client's address."
            if most_per_minute
            else "Set RATE_LIMIT_ENABLED=false in the service under test."
        )
        results[
            f"rate limit: {100 * share:.2f} % of the requests got 429, objective {100 * MOST_REJECTED:.0f} %. {remedy}"
        ] = share <= MOST_REJECTED
    if len(exceptions) > total.num_failures:
        found = f"exceptions in tasks: {len(exceptions)}, failed requests: {total.num_failures}"
        results[f"scenario: {found}. Fix load/scenario.py. The first exception is {exceptions[0]!r}."] = False
    for line, is_met in results.items():
        print(f"{'met   ' if is_met else 'MISSED'} {line}")
    environment.process_exit_code = 0 if all(results.values()) else 1


def percentile(percent: float) -> float:
    """Return the duration within which this percentage of the successful requests ended; infinite if none succeeded."""
    if not durations_ms:
        return math.inf
    return sorted(durations_ms)[math.ceil(len(durations_ms) * percent / 100) - 1]
