"""CPU time per request that uses a feature, compared with the same request without it."""

import json
import sqlite3
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from load import UNIQUE
from servers import PATIENCE_SECONDS, running, running_all, sink
from serving import NOTE, Case, Effort, measure_in_turns

# The features of the measured service.
FEATURES = ["idempotency", "notifications", "validators"]
# Cases of the same request are compared with the first of them.
LABELS = {
    "nothing": "in a service without features",
    "nothing again": "in a service without features, second process",
    "unused": "in a service with the three features",
    "unused again": "in a service with the three features, second process",
    "keyless": "without a key",
    "key": "with a new `Idempotency-Key`",
    "repeated": "repeated with its `Idempotency-Key`",
    "plain": "with plain types",
    "keyed": "with plain types and a new `Idempotency-Key`",
    "validated": "with the types of `validators`",
    "silent": "without a notification",
    "notified": "with a notification",
}
# Each of these cases has its own process, so that the other cases do not influence it.
IDLE = ["nothing", "nothing again", "unused", "unused again"]
NOTES = "/api/v1/notes"
REPEATED = NOTE | {"title": "A repeated row"}
BODY = {
    "email": "ann@example.com",
    "phone": "+4930123456",
    "price": {"amount": "19.99", "currency": "EUR"},
    "page": "https://www.example.com/tea?sort=price",
    "title": "Tea, green, 100 g",
}


def measure(framework: str, service: Path, without: Path, effort: Effort) -> list[Case]:
    """Measure every case once per round. `without` is a service without features."""
    measured = _cases(service, effort)
    with ExitStack() as stack:
        url = stack.enter_context(sink())["OTEL_EXPORTER_OTLP_ENDPOINT"]
        # The service must not drop the stored response before the request is repeated.
        variables = {"DISCORD_WEBHOOK_URL": f"{url}/webhook", "IDEMPOTENCY_MAX_BYTES": "1000000000"}
        server = stack.enter_context(running(framework, "featured", service, variables))
        idle = {variant: ("rendered", service if variant.startswith("unused") else without) for variant in IDLE}
        idle_servers = stack.enter_context(running_all(framework, idle, {}, shared=effort.quick))
        servers = dict.fromkeys(LABELS, server) | idle_servers
        (service / "key.headers").write_text(f"Idempotency-Key: {UNIQUE}")
        (service / "repeated.headers").write_text("Idempotency-Key: repeated")
        server.post(NOTES, REPEATED, {"Idempotency-Key": "repeated"})
        measure_in_turns(servers, measured, effort, partial(_wait_for_outbox, service / "data/service.db"))
    return measured


def _cases(service: Path, effort: Effort) -> list[Case]:
    hello, note, few = effort.requests(2000), json.dumps(NOTE | {"title": UNIQUE}), effort.requests(400)
    body = json.dumps(BODY)
    return [
        *(Case("hello", variant, "/hello", hello) for variant in IDLE),
        Case("a new note", "keyless", NOTES, few, body=note),
        Case("a new note", "key", NOTES, few, service / "key.headers", note),
        Case("a new note", "repeated", NOTES, few, service / "repeated.headers", json.dumps(REPEATED)),
        Case("a body of five fields", "plain", "/plain", hello, body=body),
        Case("a body of five fields", "keyed", "/plain", hello, service / "key.headers", body),
        Case("a body of five fields", "validated", "/validated", hello, body=body),
        Case("a unit of work", "silent", "/silent", few, body=note),
        Case("a unit of work", "notified", "/notified", few, body=note),
    ]


def _wait_for_outbox(database: Path) -> None:
    """Wait until the service has sent all messages."""
    until = time.monotonic() + PATIENCE_SECONDS
    with closing(sqlite3.connect(database)) as connection:
        while connection.execute("SELECT 1 FROM notifications_outbox WHERE finished_at IS NULL LIMIT 1").fetchone():
            if time.monotonic() > until:
                raise RuntimeError("the service did not send all notifications")
            time.sleep(0.01)
