"""The client of Sentry. Its integrations are off: they patch the framework, which multiplies the cost of a request."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4
from weakref import WeakKeyDictionary

import orjson
import sentry_sdk
import structlog

from ..app import Chassis
from ..formats import redact, to_json
from ..health.checks import CheckFailedError
from ..instrumentation import Operation
from ..request_context import RequestContext, current, new_span_id
from ..settings import ServiceSettings
from .sentry_scrubbing import Scrubber

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 2.0
# One event costs about a millisecond of CPU time, so the number per second and process is limited.
MAX_ERRORS_PER_SECOND = 10
MAX_TRACES_PER_SECOND = 5
_MAX_SPANS = 100
_MAX_BREADCRUMBS = 50
# The number of log entries that are stored for errors, for all requests together.
_MAX_LOG_ENTRIES = 500
_MAX_LOG_ENTRY_BYTES = 4_096

# Fields that the event already contains, and the client's address and the path, which may identify a person.
_NOT_IN_BREADCRUMBS = frozenset(
    {
        "timestamp", "level", "logger", "event", "exception", "stack", "service.name", "service.version",
        "deployment.environment.name", "request_id", "trace_id", "span_id", "http.request.method", "url.path",
        "http.route", "client.address", "user_id",
    }
)  # fmt: skip
_PROBLEMS = {
    "network": "Sentry is unreachable",
    "full_queue": "Sentry does not keep up with the events",
    "self_rate_limits": "Sentry limits the rate of events",
    "status_401": "Sentry rejects SENTRY_DSN",
    "status_403": "Sentry rejects SENTRY_DSN",
    "status_429": "Sentry limits the rate of events",
}
# https://develop.sentry.dev/sdk/data-model/event-payloads/span/#span-status
_STATUSES = {
    0: "cancelled", 401: "unauthenticated", 403: "permission_denied", 404: "not_found", 409: "already_exists",
    429: "resource_exhausted", 503: "unavailable", 504: "deadline_exceeded",
}  # fmt: skip


class Delivery(sentry_sdk.HttpTransport):
    """Sends events in a thread, and records whether they arrive. Sentry's library only reports lost events."""

    TIMEOUT = 5
    # The library tries to connect up to four times. After this time, an event has arrived, or its loss was reported.
    _known_after_seconds = 4 * TIMEOUT + 5

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.lost = 0
        self._problem: str | None = None
        self._retried_at: float | None = None

    def capture_envelope(self, envelope: Any) -> None:
        if self._problem and self._retried_at is None:
            self._retried_at = time.monotonic()
        super().capture_envelope(envelope)

    def on_dropped_event(self, reason: str) -> None:
        is_news = self.problem is None
        self.lost += 1
        self._problem = _PROBLEMS.get(reason, f"Sentry rejects events: {reason}")
        self._retried_at = None
        if is_news:
            log.warning("error_tracking_failed", cause=self._problem)

    @property
    def problem(self) -> str | None:
        """The reason why events are lost, or None as soon as a later event has arrived."""
        if self._retried_at is not None and time.monotonic() - self._retried_at > self._known_after_seconds:
            self._problem = self._retried_at = None
        return self._problem


class _Limit:
    """Limits the number of events per second."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._second = 0
        self._left = 0

    def allows(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._left = second, self._per_second
        self._left -= 1
        return self._left >= 0


class ErrorTracker:
    """Reports the errors and requests of one service."""

    def __init__(self, chassis: Chassis, dsn: str, sample_rate: float) -> None:
        self._delivery = _connect(chassis, dsn)
        self._is_open = False
        self._errors, self._traces = _Limit(MAX_ERRORS_PER_SECOND), _Limit(MAX_TRACES_PER_SECOND)
        # The second half of a trace id is random. OpenTelemetry's ratio sampler compares this half too, so both select
        # the same requests.
        self._sampled_below = f"{int(sample_rate * 2**64):016x}" if sample_rate < 1 else "g"
        self._entries: deque[tuple[object, bytes]] = deque(maxlen=_MAX_LOG_ENTRIES)
        self._spans: WeakKeyDictionary[RequestContext, list[Operation]] = WeakKeyDictionary()

    @contextmanager
    def lifespan(self) -> Iterator[None]:
        """Send the remaining events after all other resources were closed."""
        self._is_open = True
        try:
            yield
        finally:
            self._is_open = False
            sentry_sdk.flush(FLUSH_SECONDS)

    async def probe(self) -> dict[str, Any]:
        """Return the details of the health check.

        Raises:
            CheckFailedError: The last events did not arrive.
        """
        if self._delivery.problem:
            raise CheckFailedError(self._delivery.problem)
        return {"enabled": True, "lost_events": self._delivery.lost}

    def send_test(self) -> str | None:
        """Send an event, wait until it arrives, and return the problem if it does not."""
        try:
            raise RuntimeError("a test of sentry-test")
        except RuntimeError as error:
            self._capture(error, None, {"log_event": "sentry_test"})
        sentry_sdk.flush(timeout=60)  # each attempt has a timeout
        return self._delivery.problem

    def report(self, error: BaseException, error_id: str, context: RequestContext | None) -> None:
        """Report a 5xx."""
        self._capture(error, context, {"error_id": error_id})

    def observe_log(self, entry: Mapping[str, Any], error: BaseException | None) -> None:
        """Report an exception in the log, and store other entries as breadcrumbs."""
        if "error_id" in entry:
            return  # `report` receives this error
        if error is not None and entry["level"] in ("error", "critical"):
            self._capture(error, current(), {"log_event": entry["event"], "logger": entry["logger"]})
            if not self._is_open:  # the process is about to end
                sentry_sdk.flush(FLUSH_SECONDS)
            return
        crumb = to_json(
            {
                "timestamp": entry["timestamp"],
                "level": "fatal" if entry["level"] == "critical" else entry["level"],
                "category": entry["logger"],
                "message": str(entry["event"]),
                "data": {name: value for name, value in entry.items() if name not in _NOT_IN_BREADCRUMBS},
            }
        )
        if len(crumb) <= _MAX_LOG_ENTRY_BYTES:
            self._entries.append((entry.get("request_id"), crumb))

    def observe_operation(self, operation: Operation) -> None:
        """Store an operation until its request has ended."""
        context = current()
        if context is not None and not context.ended and not context.is_probe and self._is_sampled(context):
            spans = self._spans.setdefault(context, [])
            if len(spans) < _MAX_SPANS:
                spans.append(operation)

    def observe_request(self, context: RequestContext) -> None:
        """Send a trace of a sampled request."""
        if self._is_sampled(context):
            operations = self._spans.pop(context, [])
            if self._traces.allows():
                sentry_sdk.capture_event(_transaction(context, operations))

    def _is_sampled(self, context: RequestContext) -> bool:
        return context.trace_id[16:] < self._sampled_below

    def _capture(self, error: BaseException, context: RequestContext | None, tags: Mapping[str, Any]) -> None:
        if not self._errors.allows():
            return
        request_id = context.request_id if context else None
        with sentry_sdk.new_scope() as scope:
            for name, value in {**tags, **({"request_id": request_id} if request_id else {})}.items():
                scope.set_tag(name, value)
            for entry_of, crumb in self._entries.copy():
                if entry_of == request_id:
                    scope.add_breadcrumb(orjson.loads(crumb))
            if context is None:
                scope.set_context("trace", {"trace_id": uuid4().hex, "span_id": new_span_id()})
            else:
                scope.set_context("trace", {"trace_id": context.trace_id, "span_id": context.span_id})
                scope.set_transaction_name(_name(context), source="route")
                scope.set_user(_user(context))
            scope.capture_exception(error)


def _connect(chassis: Chassis, dsn: str) -> Delivery:
    """Initialise the library. Your own code may use it too, under the same rules."""
    service = chassis.settings_as(ServiceSettings)
    scrub = Scrubber(chassis.settings).scrub
    sentry_sdk.init(
        dsn=dsn,
        release=f"{service.service_name}@{service.service_version}",
        environment=service.environment,
        server_name=service.service_name,  # not the name of the machine
        transport=Delivery,
        before_send=scrub,
        before_send_transaction=scrub,
        default_integrations=False,
        auto_enabling_integrations=False,
        auto_session_tracking=False,
        enable_backpressure_handling=False,
        send_client_reports=False,
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=_MAX_BREADCRUMBS,
        in_app_include=[__name__.partition(".")[0]],
        shutdown_timeout=FLUSH_SECONDS,
        debug=False,
        spotlight=False,
    )
    logging.getLogger("urllib3.connectionpool").addFilter(_is_not_about_sentry)
    return cast(Delivery, sentry_sdk.get_client().transport)


def _name(context: RequestContext) -> str:
    """Return the route. A path may contain personal data, and each unknown path would be a separate name."""
    return context.route or "unknown route"


def _user(context: RequestContext) -> dict[str, Any] | None:
    return None if context.user_id is None else {"id": str(redact(context.user_id))}


def _transaction(context: RequestContext, operations: list[Operation]) -> Any:
    """Return a request as a transaction (https://develop.sentry.dev/sdk/data-model/event-payloads/transaction/)."""
    ended = time.time()
    offset = ended - time.perf_counter()
    # Without OpenTelemetry, the context has the span id of the caller.
    span_id = new_span_id() if context.span_id == context.parent_span_id else context.span_id
    trace = {
        "trace_id": context.trace_id,
        "span_id": span_id,
        "parent_span_id": context.parent_span_id,
        "op": "websocket.server" if context.status == 101 else "http.server",
        "status": _status(context),
        "data": {"http.request.method": context.method, "http.response.status_code": context.status},
    }
    return {
        "type": "transaction",
        "transaction": _name(context),
        "transaction_info": {"source": "route"},
        "start_timestamp": _time(ended - context.duration_seconds),
        "timestamp": _time(ended),
        "contexts": {"trace": trace},
        "tags": {"request_id": context.request_id},
        "user": _user(context),
        "spans": [_span(operation, context.trace_id, span_id, offset) for operation in operations],
    }


def _status(context: RequestContext) -> str:
    default = "invalid_argument" if context.status >= 400 else "ok"
    return _STATUSES.get(context.status, "internal_error" if context.is_failure else default)


def _span(operation: Operation, trace_id: str, parent_span_id: str, offset: float) -> dict[str, Any]:
    # A path may identify a person, so the URL is left out.
    data = {name: value for name, value in operation.attributes.items() if name != "url.full"}
    subject = data.pop("db.query.text", None) or f"{operation.name} {data.get('server.address', '')}".rstrip()
    began = operation.started + offset
    return {
        "trace_id": trace_id,
        "span_id": operation.span_id,
        "parent_span_id": parent_span_id,
        "op": "http.client" if operation.kind == "http" else "db",
        "description": subject,
        "start_timestamp": _time(began),
        "timestamp": _time(began + operation.duration_seconds),
        "status": "ok" if operation.error is None else "internal_error",
        "data": data,
    }


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _is_not_about_sentry(record: logging.LogRecord) -> bool:
    """Drop the warnings of each attempt. `error_tracking_failed` reports the first lost event."""
    return "/envelope/" not in record.getMessage()
