"""Sentry: the events and traces that a real server receives, data that is never sent, and an unavailable Sentry."""

from __future__ import annotations

import gc
import logging
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sentry_sdk
import structlog

from ..package import PACKAGE, environment, module, program
from .application import create_app
from .conftest import FAULTS, Logs, Start, settings_for_tests
from .in_process import open_client
from .process import SOURCES, serving, until
from .sentry import KEY, Sentry, serving_sentry

FEATURES = module("chassis.features").FEATURES
SECRET = "hunter" + "2hunter2"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-00"}
log = structlog.get_logger("orders")


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    with serving_sentry(Sentry()) as served:
        yield served


@pytest.fixture(autouse=True)
def no_client() -> Iterator[None]:
    """Remove the client of a test, which is global for the process, without waiting for its events."""
    yield
    sentry_sdk.get_global_scope().set_client(None)


@pytest.fixture(autouse=True)
def no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("MAX_ERRORS_PER_SECOND", "MAX_TRACES_PER_SECOND"):
        monkeypatch.setattr(module("chassis.monitoring.sentry_client"), limit, 1000)


def crash(message: str = "it broke") -> None:
    raise RuntimeError(message)


def health_of(client: Any) -> dict[str, Any]:
    return client.get("/health").json()["checks"]["sentry"]  # type: ignore[no-any-return]


def test_service_without_a_dsn_does_not_import_the_library(folder: Path) -> None:
    code = f"""
import sys
from {PACKAGE}.main import create_app
create_app()
assert {PACKAGE + ".chassis.monitoring.sentry"!r} in sys.modules
assert "sentry_sdk" not in sys.modules
"""
    variables = environment(folder, PYTHONPATH=SOURCES)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_health_without_a_dsn_says_that_sentry_is_not_enabled(start: Start) -> None:
    found = health_of(start())
    assert (found["status"], found["critical"], found["details"]) == ("ok", False, {"enabled": False})


def test_production_without_a_dsn_is_warned_of() -> None:
    (warning,) = (text for text in settings_for_tests().production_warnings() if text.startswith("SENTRY"))
    assert warning.startswith("SENTRY_DSN: is empty")
    assert not any("SENTRY" in text for text in settings_for_tests(sentry_dsn=WELL_FORMED[0]).production_warnings())


MALFORMED = [
    KEY, f"https://{KEY}@", f"https://{KEY}@sentry.example.com", f"https://{KEY}@sentry.example.com/project",
    f"https://{KEY}@sentry.example.com/1/", f"https://{KEY}@sentry.example.com:port/1", f"ftp://{KEY}@sentry.example.com/1",
    f"https://{KEY}@[sentry/1", f"https://sentry.example.com/{KEY}/1", f"https://{KEY}@sentry.example.com/1?x=2",
]  # fmt: skip
WELL_FORMED = [
    f"https://{KEY}@o1.ingest.sentry.io/1", f"http://{KEY}@127.0.0.1:9000/42", f"https://{KEY}:old@sentry/prefix/7",
]  # fmt: skip


@pytest.mark.parametrize("dsn", MALFORMED)
def test_malformed_dsn_is_rejected_in_one_sentence_without_its_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dsn: str
) -> None:
    monkeypatch.setenv("SENTRY_DSN", dsn)
    assert module("chassis.cli").main(program(), ["check"]) == 78
    said = capsys.readouterr().err
    (sentence,) = [line for line in said.splitlines() if "SENTRY_DSN" in line]
    assert "is not a valid DSN; copy it from the project's settings" in sentence
    assert KEY[:8] not in said


@pytest.mark.parametrize("dsn", WELL_FORMED)
def test_well_formed_dsn_is_accepted_by_the_service_and_the_library(dsn: str) -> None:
    assert settings_for_tests(sentry_dsn=dsn).sentry_dsn.get_secret_value() == dsn
    assert sentry_sdk.Client(dsn, default_integrations=False).dsn == dsn


def test_event_has_the_ids_of_the_response_and_the_route(start: Start, sentry: Sentry) -> None:
    def fail() -> None:
        module("chassis.request_context").current().user_id = "user-7"
        crash()

    client = start({"fail": fail}, sentry_dsn=sentry.dsn)
    response = client.get("/api/here/fail?page=2", headers={"X-Request-ID": "request-1", **TRACEPARENT})
    (event,) = sentry.received("event")
    tags = event["tags"]
    assert (tags["error_id"], tags["request_id"]) == (response.json()["error_id"], "request-1")
    assert event["contexts"]["trace"] == {"trace_id": TRACE_ID, "span_id": SPAN_ID}
    assert event["transaction"].startswith("/api/here/")
    assert "fail" not in event["transaction"]
    assert event["user"] == {"id": "user-7"}
    assert (event["release"], event["environment"], event["server_name"]) == ("demo@1.2.3", "test", "demo")
    (exception,) = event["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("RuntimeError", "it broke")
    assert exception["stacktrace"]["frames"][-1]["function"] == "crash"


def test_event_contains_the_log_entries_of_its_request_only(start: Start, sentry: Sentry) -> None:
    def fail() -> None:
        log.warning("stock_low", item=7, customer="\ud800")
        logging.getLogger("library").warning("standard library entry", extra={"shelf": 3})
        crash()

    client = start({"fail": fail, "work": lambda: log.warning("other_request")}, sentry_dsn=sentry.dsn)
    client.get("/api/here/work")
    client.get("/api/here/fail")
    (event,) = sentry.received("event")
    crumbs = event["breadcrumbs"]["values"]
    assert [(crumb["message"], crumb["category"], crumb["level"], crumb["data"]) for crumb in crumbs] == [
        ("stock_low", "orders", "warning", {"item": 7, "customer": "?"}),
        ("standard library entry", "library", "warning", {"shelf": 3}),
    ]


def in_a_message() -> None:
    crash(f"cannot connect: password={SECRET}")


def in_a_json_message() -> None:
    crash(f'rejected {{"api_key": "{SECRET}", "size": 3}}')


def in_the_query_of_a_url() -> None:
    crash(f"404 for https://example.com/path?code={SECRET}")


def in_the_user_of_a_url() -> None:
    crash(f"cannot connect to amqp://guest:{SECRET}@queue:5672")


def in_a_header_in_a_message() -> None:
    crash(f"rejected Authorization: Bearer {SECRET}")


def in_a_cookie_in_a_message() -> None:
    crash(f"rejected Cookie: theme=dark; session={SECRET}")


def on_a_later_line_of_a_message() -> None:
    crash(f"1 validation error\n  input_value={SECRET}")


def in_a_note() -> None:
    error = RuntimeError("it broke")
    error.add_note(f"while reading {SECRET}")
    raise error


def in_a_cause() -> None:
    try:
        in_a_message()
    except RuntimeError as error:
        raise LookupError("not found") from error


def in_a_group() -> None:
    raise ExceptionGroup("several", [RuntimeError(f"secret={SECRET}"), ValueError("other")])


def in_a_local_variable() -> None:
    local = SECRET
    headers = {"authorization": local}
    crash(str(len(headers)))


def in_a_log_field() -> None:
    log.warning("connecting", password=SECRET, options={"apiToken": SECRET})
    crash()


def in_the_event_of_a_log_entry() -> None:
    logging.getLogger("library").warning("connecting with token=%s", SECRET)
    crash()


def in_a_value_of_a_setting() -> None:
    crash(f"cannot use {SECRET}:")


def in_data_of_the_library() -> None:
    sentry_sdk.set_tag("note", f"password={SECRET}")
    sentry_sdk.set_context("login", {"password": SECRET, "inner": {"cookie": SECRET}})
    crash()


LEAKS: list[Callable[[], None]] = [
    in_a_message, in_a_json_message, in_the_query_of_a_url, in_the_user_of_a_url, in_a_header_in_a_message,
    in_a_cookie_in_a_message, on_a_later_line_of_a_message, in_a_note, in_a_cause, in_a_group, in_a_local_variable,
    in_a_log_field, in_the_event_of_a_log_entry, in_a_value_of_a_setting, in_data_of_the_library,
]  # fmt: skip


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__)
def test_secret_never_reaches_sentry(start: Start, sentry: Sentry, leak: Callable[[], None]) -> None:
    """The request contains the secret too: in its query, its headers and its body."""
    # A secret setting that every service with Sentry has: the second part of an old DSN.
    dsn = sentry.dsn.replace("@", f":{SECRET}@") if leak is in_a_value_of_a_setting else sentry.dsn
    client = start({"leak": leak}, sentry_dsn=dsn, sentry_traces_sample_rate=1)
    with sentry_sdk.isolation_scope():
        response = client.post(
            f"/api/thread/leak?code={SECRET}",
            headers={"Authorization": f"Bearer {SECRET}", "Cookie": f"a={SECRET}", "X-Note": SECRET},
            content=f'{{"note": "{SECRET}"}}',
        )
    assert response.status_code == 500
    (event,) = sentry.received("event")
    assert event["exception"]["values"][-1]["stacktrace"]["frames"]
    sentry.received("transaction")
    for body in sentry.bodies:
        assert SECRET.encode() not in body
        assert b"127.0.0.1" not in body  # the client's address


def test_exception_message_keeps_what_is_not_secret(start: Start, sentry: Sentry) -> None:
    client = start({"leak": in_a_message}, sentry_dsn=sentry.dsn)
    client.get("/api/here/leak")
    (event,) = sentry.received("event")
    assert event["exception"]["values"][0]["value"] == "cannot connect: password=[redacted]"


def test_long_message_is_cut_and_scrubbed_in_time(start: Start, sentry: Sentry) -> None:
    """No message makes the patterns slow."""
    texts = ["x" * 10**6, 'a="' * 10**5, "a.-" * 10**5, "= " * 10**5, "a" + " " * 10**5]
    client = start({str(at): lambda text=text: crash(text) for at, text in enumerate(texts)}, sentry_dsn=sentry.dsn)
    began = time.monotonic()
    for at in range(len(texts)):
        client.get(f"/api/here/{at}")
    assert time.monotonic() - began < 20
    for event in sentry.received("event", len(texts)):
        assert len(event["exception"]["values"][0]["value"]) <= 500


def test_expected_errors_and_probes_send_nothing(start: Start, sentry: Sentry) -> None:
    client = start({"fail": crash}, sentry_dsn=sentry.dsn, sentry_traces_sample_rate=0)
    for path in ("/api/things/x", "/nothing", "/api/things/refused/403", "/health", "/health/ready", "/api/things/1"):
        client.get(path)
    client.get("/api/here/fail")
    assert len(sentry.received("event")) == len(sentry.items) == 1


@pytest.mark.parametrize(
    "logger", [structlog.get_logger("jobs"), logging.getLogger("jobs")], ids=["structlog", "logging"]
)
def test_exception_in_the_log_is_reported_without_a_request(start: Start, sentry: Sentry, logger: Any) -> None:
    start(sentry_dsn=sentry.dsn)
    log.info("job_began", number=1)
    try:
        crash("the job broke")
    except RuntimeError:
        logger.exception("job_failed")
    (event,) = sentry.received("event")
    assert event["exception"]["values"][0]["value"] == "the job broke"
    assert (event["tags"]["log_event"], event["tags"]["logger"]) == ("job_failed", "jobs")
    assert event["breadcrumbs"]["values"][-1]["message"] == "job_began"
    assert "request_id" not in event["tags"]


def test_exception_that_a_handler_logs_is_reported_with_its_request(start: Start, sentry: Sentry) -> None:
    def work() -> None:
        try:
            crash()
        except RuntimeError:
            log.exception("handled")

    client = start({"work": work}, sentry_dsn=sentry.dsn)
    assert client.get("/api/here/work", headers={"X-Request-ID": "request-2"}).status_code == 200
    (event,) = sentry.received("event")
    assert (event["tags"]["log_event"], event["tags"]["request_id"]) == ("handled", "request-2")


def test_failed_start_is_reported_before_the_process_ends(sentry: Sentry) -> None:
    @contextmanager
    def fail() -> Iterator[None]:
        crash("the start broke")
        yield

    feature = SimpleNamespace(__name__="failing", install=lambda chassis: chassis.lifespans.append(("failing", fail)))
    app = create_app(settings_for_tests(sentry_dsn=sentry.dsn), (*FEATURES, feature), {})
    with pytest.raises(AssertionError, match=r"startup\.failed"), open_client(app):
        pass
    # The process may end now.
    assert [item["tags"]["log_event"] for kind, item in sentry.items if kind == "event"] == ["startup_failed"]


def test_events_are_limited_per_second(start: Start, sentry: Sentry, monkeypatch: pytest.MonkeyPatch) -> None:
    client_module = module("chassis.monitoring.sentry_client")
    monkeypatch.setattr(client_module, "MAX_ERRORS_PER_SECOND", 3)
    monkeypatch.setattr(client_module, "MAX_TRACES_PER_SECOND", 2)
    monkeypatch.setattr(client_module.time, "monotonic", lambda: 1.0)
    client = start({"fail": crash}, sentry_dsn=sentry.dsn, sentry_traces_sample_rate=1)
    for _ in range(5):
        client.get("/api/here/fail")
    monkeypatch.undo()
    sentry_sdk.flush(60)
    assert sorted(kind for kind, _ in sentry.items) == ["event"] * 3 + ["transaction"] * 2


def test_sampled_request_sends_a_trace_with_its_operations(start: Start, sentry: Sentry) -> None:
    instrumentation = module("chassis.instrumentation")
    found: list[Any] = []

    def work() -> None:
        statement = {"db.system.name": "sqlite", "db.query.text": "SELECT * FROM notes WHERE id = ?"}
        with instrumentation.observed(
            instrumentation.Operation("db", "SELECT", statement), found[0].operation_observers
        ):
            time.sleep(0.002)

    client = start({"work": work}, sentry_dsn=sentry.dsn, sentry_traces_sample_rate=1, install=found.append)
    client.get("/api/here/work", headers={"X-Request-ID": "request-3", **TRACEPARENT})
    client.get("/nothing/7")
    client.get("/api/status/422")
    traced, unknown, invalid = sentry.received("transaction", 3)
    assert traced["transaction"].startswith("/api/here/")
    assert unknown["transaction"] == "unknown route"
    trace = traced["contexts"]["trace"]
    assert (trace["trace_id"], trace["op"], trace["status"]) == (TRACE_ID, "http.server", "ok")
    assert trace["parent_span_id"] == SPAN_ID != trace["span_id"]
    assert trace["data"] == {"http.request.method": "GET", "http.response.status_code": 200}
    assert unknown["contexts"]["trace"]["status"] == "not_found"
    assert invalid["contexts"]["trace"]["status"] == "invalid_argument"
    assert traced["tags"]["request_id"] == "request-3"
    # A rate limit in Redis has a span as well.
    (span,) = [span for span in traced["spans"] if span["description"] == "SELECT * FROM notes WHERE id = ?"]
    assert span["op"] == "db"
    assert span["parent_span_id"] == trace["span_id"]
    assert traced["start_timestamp"] <= span["start_timestamp"] < span["timestamp"] <= traced["timestamp"]


def test_operations_of_a_request_that_never_ends_are_not_stored_forever(start: Start, sentry: Sentry) -> None:
    """A thread may call a dependency in the moment in which its request ends."""
    instrumentation, request_context = module("chassis.instrumentation"), module("chassis.request_context")
    found: list[Any] = []
    start(sentry_dsn=sentry.dsn, sentry_traces_sample_rate=1, install=found.append)
    failure = type("Failure", (Exception,), {})()
    stored = weakref.ref(failure)
    token = request_context.bind(request_context.new_context("GET", "/"))
    operation = instrumentation.Operation("db", "SELECT", {}, error=failure)
    instrumentation.end(operation, found[0].operation_observers)
    request_context.reset(token)
    del failure, operation, token
    gc.collect()
    assert stored() is None


@pytest.mark.parametrize(("rate", "tail", "sampled"), [
    (0.1, "0" * 15 + "1", True), (0.1, "f" * 16, False), (0.1, "19" + "0" * 14, True), (0.1, "1a" + "0" * 14, False),
    (1, "f" * 16, True), (0, "0" * 15 + "1", False),
])  # fmt: skip
def test_trace_id_decides_whether_a_request_is_sampled(
    start: Start, sentry: Sentry, rate: float, tail: str, sampled: bool
) -> None:
    """All services of a trace make the same decision."""
    client = start(sentry_dsn=sentry.dsn, sentry_traces_sample_rate=rate)
    client.get("/api/things/1", headers={"traceparent": f"00-{'a' * 16}{tail}-{SPAN_ID}-01"})
    sentry_sdk.flush(60)
    assert bool(sentry.items) == sampled


def test_sentry_that_refuses_connections_costs_events_and_one_log_entry(
    start: Start, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentry = Sentry()
    client = start({"fail": crash}, sentry_dsn=sentry.dsn, health_check_cache_seconds=0, sentry_traces_sample_rate=0)
    assert health_of(client)["details"] == {"enabled": True, "lost_events": 0}
    for _ in range(3):
        assert client.get("/api/here/fail").status_code == 500
    sentry_sdk.flush(60)
    found = health_of(client)
    assert (found["status"], found["error"], found["critical"]) == ("error", "Sentry is unreachable", False)
    assert client.get("/health/ready").status_code == 200
    assert [entry["cause"] for entry in logs("error_tracking_failed")] == ["Sentry is unreachable"]
    assert [entry for entry in logs() if entry["logger"].startswith("urllib3")] == []
    with serving_sentry(sentry):
        monkeypatch.setattr(module("chassis.monitoring.sentry_client").Delivery, "_known_after_seconds", 0)
        client.get("/api/here/fail")
        sentry.received("event")
        assert health_of(client)["status"] == "ok"


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (403, "Sentry rejects SENTRY_DSN"),
        (429, "Sentry limits the rate of events"),
        (500, "Sentry rejects events: status_500"),
    ],
)
def test_health_names_the_reason_why_events_are_lost(start: Start, sentry: Sentry, status: int, problem: str) -> None:
    sentry.status = status
    client = start({"fail": crash}, sentry_dsn=sentry.dsn, health_check_cache_seconds=0)
    client.get("/api/here/fail")
    sentry_sdk.flush(60)
    found = health_of(client)
    assert (found["status"], found["error"]) == ("error", problem)
    assert KEY not in client.get("/health").text


def run_command(folder: Path, dsn: str | None) -> subprocess.CompletedProcess[str]:
    variables = environment(folder, PYTHONPATH=SOURCES, **({"SENTRY_DSN": dsn} if dsn else {}))
    command = [sys.executable, "-m", PACKAGE, "sentry-test"]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


def test_test_command_reports_that_the_event_has_arrived(folder: Path, sentry: Sentry) -> None:
    done = run_command(folder, sentry.dsn)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Sentry has received the event")
    (event,) = sentry.received("event")
    assert event["exception"]["values"][0]["value"] == "a test of sentry-test"


@pytest.mark.parametrize(("dsn", "code", "said"), [
    (Sentry().dsn, 69, "not delivered: Sentry is unreachable"),
    (None, 78, "SENTRY_DSN: is not set; copy the DSN"),
], ids=["refused", "not set"])  # fmt: skip
def test_test_command_names_the_problem(folder: Path, dsn: str | None, code: int, said: str) -> None:
    done = run_command(folder, dsn)
    assert done.returncode == code
    assert said in done.stderr
    assert KEY not in done.stdout + done.stderr


def test_service_sends_what_is_left_when_it_stops(sentry: Sentry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sentry is closed after all other resources, so their errors are sent too."""

    monkeypatch.setattr(module("chassis.monitoring.sentry_client"), "FLUSH_SECONDS", 60.0)
    sentry.hangs = True  # for a moment

    @contextmanager
    def pool() -> Iterator[None]:
        yield
        try:
            crash("the pool broke")
        except RuntimeError:
            log.exception("pool_close_failed")
        threading.Timer(0.3, sentry.over.set).start()

    feature = SimpleNamespace(__name__="pool", install=lambda chassis: chassis.lifespans.append(("pool", pool)))
    app = create_app(settings_for_tests(sentry_dsn=sentry.dsn), (*FEATURES, feature), {})
    with open_client(app):
        pass
    assert [item["tags"]["log_event"] for _, item in sentry.items] == ["pool_close_failed"]


def test_sentry_that_hangs_delays_neither_requests_nor_the_end(folder: Path, sentry: Sentry) -> None:
    sentry.hangs = True
    variables = {"SENTRY_DSN": sentry.dsn, "SHUTDOWN_DRAIN_SECONDS": "0", "SHUTDOWN_TIMEOUT_SECONDS": "50"}
    with serving(folder, *FAULTS, **variables) as service:
        for _ in range(5):
            assert service.get("/api/here/crash").status_code == 500
        until(sentry.asked.is_set)
        service.send(signal.SIGTERM)
        assert service.exit_code() == 0
        assert service.events("service_stopped")
