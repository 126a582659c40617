"""The metrics, scraped over HTTP as Prometheus does it."""

from __future__ import annotations

import errno
import random
import re
import signal
import socket
import string
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from socketserver import TCPServer
from typing import Any

import httpx
import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ..package import CHASSIS, ROOT, module
from .application import create_app
from .conftest import FAULTS, Logs, Start, settings_for_tests
from .in_process import open_client
from .process import Process, read_all, serving, until

Series = dict[frozenset[tuple[str, str]], float]
DURATION = "http_server_request_duration_seconds_count"
OPENMETRICS = {"accept": "application/openmetrics-text"}


def scrape(port: int, headers: dict[str, str] | None = None) -> str:
    response = httpx.get(f"http://127.0.0.1:{port}/metrics", headers=headers, timeout=60)
    assert response.status_code == 200, response.text
    return response.text


@pytest.fixture
def metrics(logs: Logs) -> Callable[[str], Series]:
    """Return a function that scrapes the most recently started service and returns the series of one metric."""

    def read(name: str) -> Series:
        families = text_string_to_metric_families(scrape(logs("metrics_listening")[-1]["port"]))
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return {frozenset(sample.labels.items()): sample.value for sample in samples}

    return read


def requests(method: str, route: str, status: int, error: str = "") -> frozenset[tuple[str, str]]:
    """Return the labels of requests."""
    return frozenset({
        ("http_request_method", method),
        ("http_route", route),
        ("http_response_status_code", str(status)),
        ("error_type", error),
    })  # fmt: skip


def crash() -> None:
    raise RuntimeError("secret")


def test_every_request_is_counted_by_method_route_status_and_error(
    start: Start, metrics: Callable[[str], Series]
) -> None:
    """Rejected requests count as well. The route is the complete template."""
    client = start({"crash": crash}, request_timeout_seconds=0.2)
    for _ in range(2):
        assert client.get("/api/things/7").status_code == 200
    assert client.head("/api/things/7").status_code == 200
    assert client.post("/api/things", json={}).status_code == 422
    assert client.get("/api/thread/crash").status_code == 500
    assert client.get("/api/slow/60").status_code == 504
    assert client.get("/nowhere").status_code == 404
    assert client.delete("/api/things/7").status_code == 405
    assert client.get("/api/things/7", headers={"host": "elsewhere"}).status_code == 400
    assert client.get("/api/status/503").status_code == 503
    found = metrics(DURATION)
    unrouted = {labels: count for labels, count in found.items() if ("http_response_status_code", "405") in labels}
    assert sum(unrouted.values()) == 1
    assert {labels: count for labels, count in found.items() if labels not in unrouted} == {
        requests("GET", "/api/things/{thing_id}", 200): 2,
        requests("HEAD", "/api/things/{thing_id}", 200): 1,
        requests("POST", "/api/things", 422): 1,
        requests("GET", "/api/thread/{name}", 500, "RuntimeError"): 1,
        requests("GET", "/api/slow/{seconds}", 504, "DeadlineExceededError"): 1,
        requests("GET", "/api/status/{status}", 503, "503"): 1,
        requests("GET", "", 404): 1,
        requests("GET", "", 400): 1,
    }


@pytest.mark.skipif(not (CHASSIS / "rate_limit").is_dir(), reason="this service has no rate limits")
def test_request_above_the_rate_limit_is_counted(start: Start, metrics: Callable[[str], Series]) -> None:
    client = start(rate_limit_default="1/minute")
    assert [client.get("/api/things/7").status_code for _ in range(3)] == [200, 429, 429]
    found = metrics(DURATION)
    assert found[requests("GET", "/api/things/{thing_id}", 200)] == 1
    assert found[requests("GET", "", 429)] == 2  # it is rejected before the framework finds the route
    assert metrics("rate_limit_rejected_total") == {frozenset(): 2}


def test_response_that_breaks_off_is_an_error(start: Start, metrics: Callable[[str], Series]) -> None:
    """Its status was sent before the failure."""

    def stream() -> Iterator[bytes]:
        yield b"half of the "
        crash()

    client = start({"stream": stream})
    with pytest.raises(AssertionError):  # httpx raises it, because the response is incomplete
        client.get("/api/stream/stream")
    assert metrics(DURATION) == {requests("GET", "/api/stream/{name}", 200, "RuntimeError"): 1}


def test_objectives_may_use_each_bucket_of_the_latency() -> None:
    """The tool that writes the rules of `monitoring/slo.yml` rejects other thresholds."""
    buckets = module("chassis.monitoring.prometheus").REQUEST_BUCKETS
    assert f"BUCKETS = {buckets}\n" in (ROOT / "tools/slo_rules.py").read_text(encoding="utf-8")


def test_health_probes_and_scrapes_are_not_traffic(start: Start, metrics: Callable[[str], Series], logs: Logs) -> None:
    """Probes and scrapes are neither counted nor in the access log."""
    client = start()
    for path in ("/health", "/health/live", "/health/ready", "/health/started"):
        assert client.get(path).status_code == 200
    assert metrics(DURATION) == {}
    assert not logs("request_finished")


def test_random_urls_and_methods_add_no_series(start: Start, metrics: Callable[[str], Series]) -> None:
    """A client cannot fill the memory of the service or of Prometheus."""
    client = start(rate_limit_default="1000000/minute")
    draw = random.Random(7)

    def word() -> str:
        return "".join(draw.choices(string.ascii_uppercase, k=12))

    for _ in range(300):
        client.request(word(), f"/{word()}")
        client.get(f"/api/things/{draw.randrange(10**9)}?{word()}={word()}", headers={"traceparent": word()})
        client.request(word(), f"/api/things/{draw.randrange(10**9)}", headers={"host": word()})
    found = metrics(DURATION)
    assert sum(found.values()) == 900
    assert {dict(labels)["http_request_method"] for labels in found} == {"GET", "_OTHER"}
    assert len(found) <= 4


def test_series_are_limited_whatever_the_application_does() -> None:
    """Combinations above the limit are counted together."""
    prometheus = module("chassis.monitoring.prometheus")
    registry = prometheus.CollectorRegistry()
    observe = prometheus.RequestMetrics(registry)
    for number in range(prometheus.MAX_SERIES + 100):
        context = module("chassis.request_context").new_context("GET", "/")
        context.status, context.error = 500, type(f"Error{number}", (Exception,), {})()
        observe(context)
    others = dict.fromkeys(("http_request_method", "http_route", "http_response_status_code", "error_type"), "_OTHER")
    assert registry.get_sample_value(DURATION, others) == 100


def test_websocket_counts_when_it_ends_and_not_as_a_request() -> None:
    """A connection may last for hours, which would distort the latency of all requests."""
    prometheus = module("chassis.monitoring.prometheus")
    registry = prometheus.CollectorRegistry()
    observe = prometheus.RequestMetrics(registry)
    for error in (None, RuntimeError(), None):
        context = module("chassis.request_context").new_context("GET", "/socket")
        context.status, context.error, context.find_route = 101, error, lambda: "/socket"
        observe(context)
    ended = "websocket_connections_total"
    assert registry.get_sample_value(ended, {"http_route": "/socket", "error_type": ""}) == 2
    assert registry.get_sample_value(ended, {"http_route": "/socket", "error_type": "RuntimeError"}) == 1
    assert DURATION not in prometheus_client.generate_latest(registry).decode()


def test_active_requests_are_those_in_progress(start: Start, metrics: Callable[[str], Series]) -> None:
    counts: list[Series] = []
    client = start({"count": lambda: counts.append(metrics("http_server_active_requests"))})
    assert client.get("/api/thread/count").status_code == 200
    assert counts == [{frozenset(): 1}]
    assert metrics("http_server_active_requests") == {frozenset(): 0}


def test_openmetrics_has_exemplars_of_failed_and_sampled_requests(start: Start, logs: Logs) -> None:
    """From a slow or failed request in a panel, one click leads to its trace."""
    client = start({"crash": crash})
    failed, sampled, other = ("a" * 32, "b" * 32, "c" * 32)
    client.get("/api/thread/crash", headers={"traceparent": f"00-{failed}-{'1' * 16}-00"})
    client.get("/api/things/1", headers={"traceparent": f"00-{sampled}-{'1' * 16}-01"})
    client.get("/api/things/2", headers={"traceparent": f"00-{other}-{'1' * 16}-00"})
    text = scrape(logs("metrics_listening")[-1]["port"], OPENMETRICS)
    assert text.endswith("# EOF\n")
    assert set(re.findall(r'# \{trace_id="(\w+)"\}', text)) == {failed, sampled}


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=a.b", "text/plain; version=x"])
def test_scrape_with_a_malformed_accept_gets_the_default_format(start: Start, logs: Logs, accept: str) -> None:
    start()
    assert "health_ready 1.0" in scrape(logs("metrics_listening")[-1]["port"], {"accept": accept})
    assert logs("scrape_failed") == []


def test_health_and_readiness_are_metrics(start: Start, metrics: Callable[[str], Series]) -> None:
    checks = module("chassis.health.checks")

    def fail() -> None:
        raise checks.CheckFailedError("broken")

    def install(chassis: Any) -> None:
        chassis.health.add(checks.Check("printer", fail, critical=True))

    start(install=install)
    statuses = metrics("health_check_status")
    printer = {("check", "printer"), ("critical", "true")}
    found = {dict(labels)["status"]: value for labels, value in statuses.items() if printer <= labels}
    assert found == {"ok": 0, "warning": 0, "error": 1, "timeout": 0}
    assert metrics("health_ready") == {frozenset(): 0}


def test_a_source_that_fails_is_logged_and_leaves_out_only_its_numbers(
    start: Start, metrics: Callable[[str], Series], logs: Logs
) -> None:
    def fail() -> list[Any]:
        raise RuntimeError("no numbers")

    start(install=lambda chassis: chassis.measurements.insert(0, fail))
    assert metrics("health_ready") == {frozenset(): 1}
    assert logs("measurement_failed")


def test_measurement_that_is_invalid_is_logged_and_leaves_out_only_its_metric(
    start: Start, metrics: Callable[[str], Series], logs: Logs
) -> None:
    measurement = module("chassis.instrumentation").Measurement

    def measure() -> list[Any]:
        return [measurement("owner.delay", "Delay.", 1, unit="ms"), measurement("owner.size", "Size.", 1, {"of": 7})]

    start(install=lambda chassis: chassis.measurements.insert(0, measure))
    assert metrics("owner_size") == {frozenset({("of", "7")}): 1}
    assert metrics("health_ready") == {frozenset(): 1}
    assert logs("measurement_failed")


def test_metrics_are_served_while_the_event_loop_hangs(
    start: Start, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They show how long the event loop has hung. Numbers that only the event loop can read are missing."""
    monkeypatch.setattr(module("chassis.monitoring.prometheus_server"), "_READ_SECONDS", 0.0)
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(_context: Any, _headers: Any) -> None:
        hangs.set()
        goes_on.wait(60)

    client = start(install=lambda chassis: chassis.before_request.append(hang))
    port = logs("metrics_listening")[-1]["port"]
    with ThreadPoolExecutor() as pool:
        request = pool.submit(client.get, "/api/things/1")
        assert hangs.wait(60)
        text = scrape(port)
        goes_on.set()
        assert request.result().status_code == 200
    (lag,) = re.findall(r"^event_loop_lag_seconds (.+)$", text, re.MULTILINE)
    assert float(lag) > 0.5
    assert "process_open_fds" in text
    assert "health_ready" not in text
    assert logs("measurements_missing")


def test_occupied_port_stops_the_start_with_one_sentence(folder: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = Process(folder, *FAULTS, METRICS_PORT=str(port))
        assert process.exit_code() == 78
    (failure,) = process.events("startup_failed")
    assert failure["cause"].startswith(f"METRICS_PORT: cannot listen on 127.0.0.1:{port} (Address already in use)")
    assert process.stderr == ""


@pytest.mark.parametrize("host", ["a" * 64, "metrics..internal"])
def test_host_name_that_is_invalid_is_reported_in_one_sentence(host: str) -> None:
    server = module("chassis.monitoring.prometheus_server")
    with pytest.raises(module("chassis.settings").SettingsError, match=r"^METRICS_PORT: cannot listen on .*; set "):
        server.MetricsServer(host, 0, prometheus_client.CollectorRegistry(), [])._listen()


def test_burst_of_connections_is_queued() -> None:
    """Otherwise the kernel drops some of them, and their clients wait for retransmissions, up to a minute."""
    registry = prometheus_client.CollectorRegistry()
    server = module("chassis.monitoring.prometheus_server").MetricsServer("127.0.0.1", 0, registry, [])._listen()
    with closing(server.socket), ExitStack() as connections:
        for _ in range(100):
            connections.enter_context(socket.create_connection(server.server_address, timeout=10))


def test_server_without_file_descriptors_waits_before_it_accepts_again(
    start: Start, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that cannot be accepted stays in the queue, so the loop would use a whole CPU until then."""
    accept, tries = TCPServer.get_request, []

    def fail_at_first(server: TCPServer) -> Any:
        tries.append(time.monotonic())
        if tries[-1] < tries[0] + 0.5:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(server)

    start()
    monkeypatch.setattr(TCPServer, "get_request", fail_at_first)
    assert scrape(logs("metrics_listening")[-1]["port"])
    assert 1 < len(tries) < 20


def test_metrics_are_served_until_all_requests_have_ended(folder: Any) -> None:
    """Prometheus can scrape the process during its shutdown, so the last requests are in its metrics."""
    with serving(folder, *FAULTS, SHUTDOWN_DRAIN_SECONDS="0", SHUTDOWN_TIMEOUT_SECONDS="50") as process:
        port = process.events("metrics_listening")[0]["port"]
        with process.connect() as slow:
            body = b'{"name": "a"}'
            slow.sendall(b"POST /api/things HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
            slow.sendall(b"Content-Length: %d\r\n\r\n" % len(body))
            until(lambda: "http_server_active_requests 1.0" in scrape(port))
            process.send(signal.SIGTERM)
            until(lambda: process.events("draining_started"))
            assert "http_server_active_requests 1.0" in scrape(port)
            slow.sendall(body)
            assert read_all(slow).startswith(b"HTTP/1.1 201 ")
        assert process.exit_code() == 0
    with pytest.raises(httpx.ConnectError):
        scrape(port)


def test_port_is_closed_with_the_service(logs: Logs) -> None:
    """The next service can listen on the port immediately."""
    features, port = module("chassis.features").FEATURES, 0
    for _ in range(2):
        with open_client(create_app(settings_for_tests(metrics_port=port), features, {})):
            port = logs("metrics_listening")[-1]["port"]
            assert scrape(port)
        with pytest.raises(httpx.ConnectError):
            scrape(port)


def documented() -> set[str]:
    """Return the metrics in the table of docs/options/prometheus.md."""
    text = (ROOT / "docs/options/prometheus.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))


def test_document_lists_exactly_the_metrics_that_are_served(folder: Any) -> None:
    """Alert rules and dashboards are written from that table."""
    with serving(folder, *FAULTS) as process:
        text = scrape(process.events("metrics_listening")[0]["port"])
    served = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    # They appear with the first circuit breaker, retry and health check.
    later = {"circuit_breaker_state", "retries_total"}
    later |= {"health_check_status", "health_check_latency_seconds"}
    assert served - documented() == set()
    assert documented() - served <= later


def test_owners_counters_are_served(start: Start, metrics: Callable[[str], Series]) -> None:
    """Counters of the chassis and metrics of prometheus_client are both served."""
    counter = module("chassis.instrumentation").Counter("owner.events", "Events.")
    histogram = prometheus_client.Histogram("owner_seconds", "Durations.", buckets=[1])

    def count() -> None:
        counter.add(kind="good")
        counter.add(2, kind="good")
        counter.add(kind="\ud800")
        histogram.observe(0.5)

    try:
        client = start({"count": count})
        assert metrics("owner_events_total") == {frozenset(): 0}
        client.get("/api/thread/count")
        assert metrics("owner_events_total") == {frozenset({("kind", "good")}): 3, frozenset({("kind", "?")}): 1}
        assert metrics("owner_seconds_count") == {frozenset(): 1}
    finally:
        prometheus_client.REGISTRY.unregister(histogram)
