"""OpenTelemetry: the spans that a collector receives, for which requests, and the cost of an unavailable collector."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from ..package import CHASSIS, PACKAGE, environment, module
from ..servers import free_port
from .conftest import FAULTS, Logs, Start, settings_for_tests
from .opentelemetry import Collector, serving_collector
from .process import SOURCES, Process, serving

errors = module("chassis.errors")
instrumentation = module("chassis.instrumentation")
request_context = module("chassis.request_context")
settings_module = module("chassis.settings")

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
THING = "/api/things/7"
THING_SPAN = "GET /api/things/{thing_id}"
NAMED_SPAN = "GET /api/here/{name}"
OPERATION = {"db.system.name": "postgresql", "db.operation.name": "SELECT", "db.query.text": "SELECT ?"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with serving_collector() as serving_one:
        yield serving_one


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Collector]]:
    """Return a service in a separate process that samples the requests that its callers sample, and its collector."""
    variables = {"SERVICE_NAME": "prices", "OTEL_TRACES_SAMPLER_ARG": "0", "OTEL_BSP_SCHEDULE_DELAY": "20"}
    with serving_collector() as collector:
        folder = tmp_path_factory.mktemp("prices")
        with serving(folder, *FAULTS, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **variables) as running:
            yield running, collector


class Traced:
    """A service that sends its traces to a collector; `flush` sends them now."""

    def __init__(
        self,
        start: Start,
        url: str,
        behaviours: dict[str, Callable[..., Any]],
        install: Callable[[Any], object] = lambda chassis: None,
        **settings: Any,
    ) -> None:
        self._chassis: list[Any] = []
        # Without a rate limit, because one in Redis has spans as well.
        chosen = {"otel_exporter_otlp_endpoint": url, "otel_traces_sampler_arg": 1, "rate_limit_enabled": False}

        def installed(chassis: Any) -> None:
            self._chassis.append(chassis)
            install(chassis)

        self.client = start(behaviours, install=installed, health_check_cache_seconds=0, **chosen | settings)

    @property
    def chassis(self) -> Any:
        return self._chassis[0]

    @property
    def provider(self) -> TracerProvider:
        found: TracerProvider = self.chassis.get(TracerProvider)
        return found

    def flush(self) -> None:
        self.provider.force_flush()

    def check(self) -> Any:
        return self.client.get("/health").json()["checks"]["traces"]


Trace = Callable[..., Traced]


@pytest.fixture
def traced(collector: Collector, start: Start) -> Trace:
    """Start a service; `behaviours` are those of its routes, and other arguments are those of `Traced`."""

    def start_one(behaviours: dict[str, Callable[..., Any]] | None = None, **settings: Any) -> Traced:
        return Traced(start, collector.url, behaviours or {}, **settings)

    return start_one


def traceparent(flags: str) -> dict[str, str]:
    return {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-{flags}"}


# -- the span of a request ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_request_is_exported_as_a_span_with_the_ids_of_its_log_entries(start: Start, logs: Logs, protocol: str) -> None:
    """Attributes are those of the stable semantic conventions, and the request id of the response."""
    with serving_collector(protocol) as collector:
        service = Traced(start, collector.url, {}, otel_exporter_otlp_protocol=protocol,
            otel_exporter_otlp_headers="Authorization=Bearer%20abc, x-tenant = 7",
            otel_resource_attributes="service.namespace=shop,deployment.environment.name=blue",
        )  # fmt: skip
        response = service.client.get(f"{THING}?limit=3", headers={"user-agent": "a browser"})
        service.flush()
        span = collector.named(THING_SPAN)
    (entry,) = logs("request_finished")
    assert (span.trace_id, span.span_id) == (entry["trace_id"], entry["span_id"])
    assert (span.kind, span.parent_span_id, span.is_error, span.events) == ("SERVER", "", False, [])
    assert 0 < span.seconds < 60
    assert span.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/api/things/{thing_id}",
        "url.path": THING,
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "user_agent.original": "a browser",
        "request_id": response.headers["x-request-id"],
    }
    expected = {
        "service.name": "demo",
        "service.version": "1.2.3",
        "service.namespace": "shop",
        "deployment.environment.name": "blue",
    }
    assert span.resource.items() >= expected.items()
    assert (collector.headers["authorization"], collector.headers["x-tenant"]) == ("Bearer abc", "7")


def test_service_name_of_traces_may_differ(traced: Trace, collector: Collector) -> None:
    service = traced(otel_service_name="shop", otel_resource_attributes="service.name=ignored")
    service.client.get(THING)
    service.flush()
    assert collector.named(THING_SPAN).resource["service.name"] == "shop"


def test_failed_request_is_an_error_with_the_exception_and_without_its_text(
    traced: Trace, collector: Collector
) -> None:
    """The event has the `error_id` of the response and the stack, but the text may contain a secret."""

    def crash() -> None:
        raise RuntimeError("password is hunter2")

    service = traced({"crash": crash})
    body = service.client.get("/api/here/crash").json()
    service.flush()
    span = collector.named(NAMED_SPAN)
    assert (span.is_error, span.attributes["http.response.status_code"]) == (True, 500)
    assert span.attributes["error.type"] == "RuntimeError"
    ((name, event),) = span.events
    assert (name, event["exception.type"], event["error_id"]) == (
        "exception", "RuntimeError", body["error_id"],
    )  # fmt: skip
    assert "in crash" in event["exception.stacktrace"]
    assert "password is" not in str(span).replace('raise RuntimeError("password is hunter2")', "")


@pytest.mark.parametrize(
    ("path", "name", "status"),
    [
        ("/nowhere", "GET", 404),
        ("/api/status/409", "GET /api/status/{status}", 409),
        ("/api/things/7?limit=x", THING_SPAN, 400),
    ],
)
def test_request_of_a_client_error_is_not_an_error(
    traced: Trace, collector: Collector, path: str, name: str, status: int
) -> None:
    """An unknown path is an attribute, but never part of the name, because there must be few different names."""
    service = traced()
    service.client.get(path)
    service.flush()
    (span,) = collector.spans
    assert (span.is_error, span.attributes["http.response.status_code"]) == (False, status)
    assert span.name == name
    assert "error.type" not in span.attributes


def test_5xx_without_an_exception_is_an_error(traced: Trace, collector: Collector) -> None:
    service = traced()
    service.client.get("/api/status/503")
    service.flush()
    (span,) = collector.spans
    assert (span.is_error, span.attributes["error.type"], span.events) == (True, "503", [])


def test_stream_that_breaks_off_is_an_error(process: tuple[Process, Collector]) -> None:
    """Its status was sent before it failed."""
    running, collector = process
    with pytest.raises(httpx.RemoteProtocolError):
        running.get("/api/stream/half", headers=traceparent("01"))
    span = collector.named("GET /api/stream/{name}")
    assert (span.is_error, span.attributes["http.response.status_code"]) == (True, 200)
    assert [name for name, _ in span.events] == ["exception"]


def test_rejected_request_is_traced(traced: Trace, collector: Collector) -> None:
    service = traced()
    service.client.get(THING, headers={"host": "other.invalid"})
    service.flush()
    assert collector.named("GET").attributes["http.response.status_code"] == 400


def test_unknown_method_is_named_other(traced: Trace, collector: Collector) -> None:
    """A client may send any word as a method, and there must be few different names of spans."""
    service = traced()
    service.client.request("BREW", "/nowhere")
    service.flush()
    (span,) = collector.spans
    assert span.name == "HTTP"
    assert (span.attributes["http.request.method"], span.attributes["http.request.method_original"]) == (
        "_OTHER", "BREW",
    )  # fmt: skip


def test_health_probe_is_not_traced(traced: Trace, collector: Collector) -> None:
    service = traced(otel_traces_sampler="always_on")
    for path in ("/health", "/health/live", "/health/ready", "/health/started"):
        service.client.get(path, headers=traceparent("01"))
    service.flush()
    assert collector.spans == []


# -- sampling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "share", "caller", "sampled"),
    [
        ("parentbased_traceidratio", 0, "01", True),
        ("parentbased_traceidratio", 1, "00", False),
        ("parentbased_traceidratio", 1, "02", False),
        ("parentbased_traceidratio", 0, "03", True),
        ("parentbased_traceidratio", 1, None, True),
        ("parentbased_traceidratio", 0, None, False),
        ("traceidratio", 0, "01", False),
        ("traceidratio", 1, "00", True),
        ("always_on", 0, "00", True),
        ("always_off", 1, "01", False),
        ("parentbased_always_on", 0, "00", False),
        ("parentbased_always_on", 0, None, True),
        ("parentbased_always_off", 1, "01", True),
        ("parentbased_always_off", 1, None, False),
    ],
)
def test_request_is_sampled_as_the_caller_or_the_setting_says(
    traced: Trace, collector: Collector, sampler: str, share: float, caller: str | None, sampled: bool
) -> None:
    """Calls to other services carry the same decision in their flags. An owner's span follows the request."""
    flags: list[str] = []

    def work() -> None:
        flags.append(request_context.current().trace_flags)
        with service.provider.get_tracer("shop").start_as_current_span("price"):
            instrumentation.end(instrumentation.Operation("db", "SELECT", {}), service.chassis.operation_observers)

    service = traced({"work": work}, otel_traces_sampler=sampler, otel_traces_sampler_arg=share)
    service.client.get("/api/here/work", headers=traceparent(caller) if caller else {})
    service.flush()
    assert flags == ["01" if sampled else "00"]
    names = [span.name for span in collector.spans]
    assert sorted(names) == (sorted([NAMED_SPAN, "price", "SELECT"]) if sampled else [])


def test_span_of_a_sampled_caller_is_its_child(traced: Trace, collector: Collector, logs: Logs) -> None:
    service = traced()
    service.client.get(THING, headers={**traceparent("01"), "tracestate": "vendor=1"})
    service.flush()
    span = collector.named(THING_SPAN)
    assert (span.trace_id, span.parent_span_id, span.trace_state) == (TRACE_ID, SPAN_ID, "vendor=1")
    assert span.span_id != SPAN_ID
    assert logs("request_finished")[0]["span_id"] == span.span_id


def test_share_of_the_traces_is_sampled() -> None:
    """The decision depends only on the trace id, so that all services of a trace make the same decision."""
    sampler = module("chassis.monitoring.opentelemetry_spans").RequestSampler("parentbased_traceidratio", 0.1)
    contexts = [request_context.new_context("GET", "/") for _ in range(10_000)]
    decisions = [sampler.samples(context) for context in contexts]
    assert 700 < sum(decisions) < 1300
    assert [sampler.samples(context) for context in contexts] == decisions


# -- operations and an owner's spans -----------------------------------------------------------------------------------


def test_operation_is_a_child_of_the_current_span_with_the_id_that_the_dependency_got(
    traced: Trace, collector: Collector
) -> None:
    operations: list[Any] = []

    def work() -> None:
        observers = service.chassis.operation_observers
        for _ in range(2):
            operations.append(instrumentation.Operation("db", "SELECT", dict(OPERATION)))
            instrumentation.end(operations[-1], observers)
            if len(operations) == 1:
                opened = trace.use_span(service.provider.get_tracer("shop").start_span("price"), end_on_exit=True)
                opened.__enter__()
        opened.__exit__(None, None, None)

    service = traced({"work": work})
    service.client.get("/api/here/work")
    service.flush()
    request, own = collector.named(NAMED_SPAN), collector.named("price")
    first, second = (span for span in collector.spans if span.name == "SELECT")
    assert [first.span_id, second.span_id] == [operation.span_id for operation in operations]
    assert [first.parent_span_id, own.parent_span_id, second.parent_span_id] == [
        request.span_id, request.span_id, own.span_id,
    ]  # fmt: skip
    assert {span.trace_id for span in collector.spans} == {request.trace_id}
    assert (first.kind, first.attributes, first.is_error) == ("CLIENT", OPERATION, False)


@pytest.mark.parametrize(
    ("attributes", "error", "error_type"),
    [
        ({}, errors.UnavailableError("a secret"), f"{errors.__name__}.UnavailableError"),
        ({"http.response.status_code": 503}, KeyError("a secret"), "503"),
        ({"http.response.status_code": 404}, None, "404"),
        ({"http.response.status_code": 302}, None, None),
    ],
)
def test_failed_operation_is_an_error(
    traced: Trace, collector: Collector, attributes: Any, error: Exception | None, error_type: str | None
) -> None:
    def work() -> None:
        operation = instrumentation.Operation("http", "GET", attributes, error=error)
        instrumentation.end(operation, service.chassis.operation_observers)

    service = traced({"work": work})
    service.client.get("/api/thread/work")
    service.flush()
    span = collector.named("GET")
    assert (span.is_error, span.attributes.get("error.type")) == (error_type is not None, error_type)
    assert "a secret" not in str(span)


def test_operation_outside_of_a_request_is_not_traced(traced: Trace, collector: Collector) -> None:
    """A job of the owner may begin a trace."""
    service = traced(otel_traces_sampler="always_on")
    operation = instrumentation.Operation("db", "SELECT", {})
    instrumentation.end(operation, service.chassis.operation_observers)
    with service.provider.get_tracer("shop").start_as_current_span("job"):
        instrumentation.end(operation, service.chassis.operation_observers)
    service.flush()
    assert sorted(span.name for span in collector.spans) == ["SELECT", "job"]


def test_owner_adds_attributes_to_the_span_of_the_request(traced: Trace, collector: Collector) -> None:
    """Long texts are cut, because the queue of spans is in memory."""

    def work() -> None:
        trace.get_current_span().set_attribute("tenant", "x" * 100_000)

    service = traced({"work": work})
    service.client.get("/api/here/work")
    service.flush()
    assert len(collector.named(NAMED_SPAN).attributes["tenant"]) == 4096


def test_next_request_does_not_inherit_a_span(traced: Trace, collector: Collector) -> None:
    """Connections, tasks and threads are reused."""
    seen: list[bool] = []
    service = traced({"work": lambda: seen.append(trace.get_current_span().get_span_context().is_valid)})
    for flags in ("01", "00", "01", "00"):
        service.client.get("/api/here/work", headers=traceparent(flags))
        service.client.get("/api/thread/work", headers=traceparent(flags))
    assert seen == [True, True, False, False] * 2


@pytest.mark.skipif(not (CHASSIS / "http_client").is_dir(), reason="the service has no HTTP client")
def test_trace_continues_in_the_service_that_is_called(
    traced: Trace, collector: Collector, process: tuple[Process, Collector]
) -> None:
    """The call's span is the parent of the other service's span."""
    from .calling import clients
    from .test_http_client import status_of

    other, other_collector = process
    call = lambda: status_of(clients.http_client(service.chassis, "prices").get(THING))  # noqa: E731
    # The service closes only clients that were added before it started.
    service = traced({"call": call}, install=lambda chassis: clients.add_http_client(chassis, "prices", other.url))
    assert service.client.get("/api/here/call").json() == 200
    service.flush()
    there = other_collector.named(THING_SPAN)
    here, called = collector.named(NAMED_SPAN), collector.named("GET")
    assert (there.resource["service.name"], here.resource["service.name"]) == ("prices", "demo")
    assert {there.trace_id, called.trace_id} == {here.trace_id}
    assert (there.parent_span_id, called.parent_span_id) == (called.span_id, here.span_id)
    assert (called.kind, called.attributes["url.full"]) == ("CLIENT", f"{other.url}{THING}")


# -- the collector -----------------------------------------------------------------------------------------------------


def test_collector_that_is_gone_costs_one_log_entry_and_no_request(start: Start, logs: Logs) -> None:
    """The health check fails until the collector is back, but it is not critical."""
    port = free_port()
    service = Traced(start, f"http://127.0.0.1:{port}", {}, otel_exporter_otlp_timeout=0.05)
    check = service.check()
    assert (check["status"], check["critical"]) == ("ok", False)
    for _ in range(5):
        assert service.client.get(THING).status_code == 200
        service.flush()
    # The library also warns of the provider of an earlier test.
    found = [entry["logger"].split(".")[:2] for entry in logs() if entry["level"] in ("warning", "error")]
    assert [logger for logger in found if logger != ["opentelemetry", "trace"]] == [["opentelemetry", "exporter"]]
    check = service.check()
    assert (check["status"], check["error"]) == ("error", "the collector is unreachable or rejects traces")
    assert (check["details"]["sent"], check["details"]["lost"]) == (0, 5)
    assert service.client.get("/health").json()["status"] == "degraded"
    with serving_collector(port=port) as collector:
        service.client.get(THING)
        service.flush()
        assert len(collector.spans) == 1
    details = service.check()["details"]
    assert service.check()["status"] == "ok"
    assert (details["enabled"], details["sent"], details["lost"]) == (True, 1, 5)
    assert details["last_export"]


@pytest.mark.parametrize("status", [401, 503])
def test_collector_that_rejects_spans_costs_one_log_entry_and_no_request(
    traced: Trace, collector: Collector, logs: Logs, status: int
) -> None:
    collector.respond = lambda: status
    service = traced(otel_exporter_otlp_timeout=0.05)
    for _ in range(3):
        assert service.client.get(THING).status_code == 200
        service.flush()
    check = service.check()
    assert (check["status"], check["error"]) == ("error", "the collector is unreachable or rejects traces")
    assert (check["details"]["sent"], check["details"]["lost"]) == (0, 3)
    assert service.client.get("/health/ready").status_code == 200
    found = [entry for entry in logs() if entry["logger"].startswith("opentelemetry.exporter")]
    assert [entry["dropped_entries"] for entry in found] == [0]


def test_collector_that_hangs_does_not_delay_requests(
    traced: Trace, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, over = threading.Event(), threading.Event()

    def hang() -> int:
        asked.set()
        over.wait(60)
        return 200

    collector.respond = hang
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    service = traced()
    try:
        assert service.client.get(THING).status_code == 200
        assert asked.wait(60)
        assert service.client.get(THING).status_code == 200
        assert service.check()["details"]["sent"] == 0
    finally:
        over.set()
    service.flush()
    assert len(collector.spans) == 2


def test_collector_that_hangs_does_not_delay_the_shutdown(
    collector: Collector, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK would wait for half a minute."""
    monkeypatch.setattr(module("chassis.monitoring.opentelemetry_export"), "_SHUTDOWN_SECONDS", 0.05)
    over = threading.Event()
    collector.respond = lambda: 503 if over.wait(60) else 200
    chassis = new_chassis(collector)
    with pipeline_of(chassis)(), chassis.get(TracerProvider).get_tracer("shop").start_as_current_span("job"):
        pass
    over.set()
    assert len(logs("traces_lost_at_shutdown")) == 1


def test_spans_are_sent_before_the_service_has_stopped(collector: Collector) -> None:
    """The pipeline closes last, so that spans of the other resources are sent too."""
    chassis = new_chassis(collector)
    with pipeline_of(chassis)(), chassis.get(TracerProvider).get_tracer("shop").start_as_current_span("job"):
        pass
    assert [span.name for span in collector.spans] == ["job"]


def new_chassis(collector: Collector) -> Any:
    chosen = {"otel_exporter_otlp_endpoint": collector.url, "otel_traces_sampler": "always_on"}
    features = [module("chassis.logging.config"), module("chassis.monitoring.opentelemetry")]
    return module("chassis.app").build(settings_for_tests(**chosen), features)


def pipeline_of(chassis: Any) -> Callable[[], Any]:
    ((name, opener),) = chassis.lifespans
    assert name == "traces"
    return opener  # type: ignore[no-any-return]


# -- settings ----------------------------------------------------------------------------------------------------------

GLOBAL = """
from opentelemetry import trace
with chassis.lifespans[0][1]():
    with trace.get_tracer("shop").start_as_current_span("job"):
        pass
"""


def run(folder: Path, code: str, **variables: str) -> list[str]:
    """Run code with a chassis in a process, and return the libraries of traces that it has imported."""
    script = f"""
import sys
from {PACKAGE}.chassis import app, settings
from {PACKAGE}.chassis.logging import config
from {PACKAGE}.chassis.monitoring import opentelemetry

class Settings(opentelemetry.Settings, config.Settings, settings.ServiceSettings): ...

chassis = app.build(settings.load(Settings), [config, opentelemetry])
{code}
print(*(name for name in ("opentelemetry.sdk", "opentelemetry", "grpc", "requests") if name in sys.modules))
"""
    env = environment(folder, PYTHONPATH=SOURCES, LOG_LEVEL="ERROR", **variables)
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("disabled", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}])
def test_service_without_a_collector_does_not_import_the_sdk(folder: Path, disabled: dict[str, str]) -> None:
    assert run(folder, "", **disabled) == []


def test_tracer_of_the_library_sends_to_the_collector(folder: Path, collector: Collector) -> None:
    """With HTTP, gRPC is not imported."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_TRACES_SAMPLER": "always_on"}
    assert "grpc" not in run(folder, GLOBAL, **variables)
    assert collector.named("job").kind == "INTERNAL"


def test_your_service_sends_one_span_per_request(folder: Path, collector: Collector) -> None:
    """If this fails on FastAPI, your `main.py` lacks the argument `telemetry`: see docs/options/opentelemetry.md."""
    code = f"""
import asyncio
from {PACKAGE}.main import create_app

service = create_app()

async def receive():
    return {{"type": "http.request"}}

async def send(message):
    pass

headers = [(b"host", b"localhost")]
scope = {{"type": "http", "method": "GET", "path": "/nowhere", "query_string": b"", "headers": headers}}
with dict(service.chassis.lifespans)["traces"]():
    asyncio.run(app.asgi_app(service)(scope, receive, send))
"""
    run(folder, code, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_TRACES_SAMPLER="always_on")
    assert [span.name for span in collector.spans if span.kind == "SERVER"] == ["GET"]


def test_check_of_a_service_without_a_collector_says_so(start: Start) -> None:
    found = start().get("/health").json()["checks"]["traces"]
    assert (found["status"], found["critical"], found["details"]) == ("ok", False, {"enabled": False})


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("otel_traces_sampler", "jaeger_remote", "parentbased_traceidratio"),
        ("otel_exporter_otlp_protocol", "http/json", "http/protobuf"),
        ("otel_exporter_otlp_endpoint", "collector:4317", "use the form http://collector:4318"),
        ("otel_exporter_otlp_endpoint", "http://me:hunter2@collector", "set OTEL_EXPORTER_OTLP_HEADERS"),
        ("otel_exporter_otlp_endpoint", "http://collector/?key=hunter2", "set OTEL_EXPORTER_OTLP_HEADERS"),
        ("otel_exporter_otlp_endpoint", "http://collector#hunter2", "set OTEL_EXPORTER_OTLP_HEADERS"),
        ("otel_exporter_otlp_endpoint", "http://collector:99999", "use the form http://collector:4318"),
        ("otel_exporter_otlp_endpoint", "http://[::1", "use the form http://collector:4318"),
        ("otel_exporter_otlp_endpoint", "http://my collector", "use the form http://collector:4318"),
        ("otel_exporter_otlp_headers", "authorization=hunter2%0a", "must not contain control characters"),
        ("otel_exporter_otlp_headers", "hunter2", "is not a list of name=value"),
        ("otel_exporter_otlp_headers", "a=hunter2\nb", "is not a list of name=value"),
        ("otel_resource_attributes", "hunter2", "is not a list of name=value"),
        ("otel_exporter_otlp_timeout", 10_000, "less than or equal to 300"),
        ("otel_traces_sampler_arg", 10, "less than or equal to 1"),
    ],
)
def test_invalid_setting_is_named_without_a_secret(name: str, value: Any, problem: str) -> None:
    with pytest.raises(settings_module.SettingsError) as raised:
        settings_for_tests(**{name: value})
    (sentence,) = raised.value.problems
    assert sentence.startswith(f"{name.upper()}: ")
    assert problem in sentence
    assert "hunter2" not in sentence


@pytest.mark.parametrize("name", ["otel_exporter_otlp_headers", "otel_resource_attributes"])
def test_pairs_that_may_contain_a_secret_are_masked(name: str) -> None:
    settings = settings_for_tests(**{name: "authorization=hunter2"})
    assert settings_module.in_force(settings)[name.upper()] == "********"
    assert "hunter2" not in repr(settings)


def test_production_without_a_collector_is_a_warning() -> None:
    (warning,) = (text for text in settings_for_tests().production_warnings() if text.startswith("OTEL"))
    assert warning.startswith("OTEL_EXPORTER_OTLP_ENDPOINT: ")


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"), ("OTEL_BSP_MAX_QUEUE_SIZE", "10")]
)
def test_invalid_variable_of_the_sdk_ends_the_start_with_one_sentence(folder: Path, name: str, value: str) -> None:
    """The queue is smaller than a batch."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", name: value}
    process = Process(folder, *FAULTS, **variables)
    assert process.exit_code() == 78
    said = process.stderr + str(process.lines)
    assert "Traceback" not in said
    assert "a variable of OpenTelemetry's SDK is invalid" in said
