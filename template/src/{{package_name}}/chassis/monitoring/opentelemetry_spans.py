"""Spans of sampled requests and of their calls, with the same ids as in the log.

The sampler decides before a span is created, so that requests that are not sampled cost almost nothing. Names and
attributes are those of the stable semantic conventions (https://opentelemetry.io/docs/specs/semconv/).
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property

from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.util.types import Attributes

from .. import request_context
from ..instrumentation import HTTP_METHODS, OTHER, Operation
from ..request_context import RequestContext, new_span_id
from ..settings import ServiceSettings
from .opentelemetry import Settings, pairs

_MAX_ATTRIBUTE_CHARACTERS = 4096
_MAX_FRAMES = 20
_SAMPLED, _NOT_SAMPLED = "01", "00"

# The ids for the next span: the trace id and the span id.
_next_ids: ContextVar[tuple[int, int] | None] = ContextVar("next_ids", default=None)
_given_ids = _next_ids.get


def new_provider(settings: Settings, service: ServiceSettings, sampler: Sampler) -> TracerProvider:
    """Return a provider without a destination, whose spans have the ids and the sampling of the request."""
    attributes = {
        "service.name": service.service_name,
        "service.version": service.service_version,
        "deployment.environment.name": service.environment,
    }
    attributes |= pairs(settings.otel_resource_attributes)
    if settings.otel_service_name:
        attributes["service.name"] = settings.otel_service_name
    created = Resource.create(attributes)
    return TracerProvider(
        sampler=sampler,
        resource=_Resource(created.attributes, created.schema_url),
        shutdown_on_exit=False,  # the lifespan shuts it down
        id_generator=_Ids(),
        span_limits=SpanLimits(max_attribute_length=_MAX_ATTRIBUTE_CHARACTERS),
    )


class _Resource(Resource):
    """A resource that computes its hash once. The exporter uses it for each span, and it takes 6 microseconds."""

    @cached_property
    def _hash(self) -> int:
        return super().__hash__()

    def __hash__(self) -> int:
        return self._hash


class _Ids(RandomIdGenerator):
    """Gives a span the ids that the log contains, or that were already sent to another service."""

    def generate_trace_id(self) -> int:
        ids = _given_ids()
        return ids[0] if ids else super().generate_trace_id()

    def generate_span_id(self) -> int:
        ids = _given_ids()
        return ids[1] if ids else super().generate_span_id()


@contextmanager
def _ids(trace_id: int, span_id: str) -> Iterator[None]:
    token = _next_ids.set((trace_id, int(span_id, 16)))
    try:
        yield
    finally:
        _next_ids.reset(token)


class RequestSampler(Sampler):
    """Decides once per request. All spans of the request follow this decision.

    Args:
        name: The value of `OTEL_TRACES_SAMPLER`.
        ratio: The share of the traces, for samplers with a ratio.
    """

    def __init__(self, name: str, ratio: float) -> None:
        self._name = name
        self._follows_caller = name.startswith("parentbased_")
        shares = {"always_on": 1.0, "always_off": 0.0}
        self._bound = TraceIdRatioBased.get_bound_for_rate(shares.get(name.removeprefix("parentbased_"), ratio))

    def samples(self, context: RequestContext) -> bool:
        """Return whether a request is sampled."""
        if self._follows_caller and context.parent_span_id is not None:
            return int(context.trace_flags, 16) & TraceFlags.SAMPLED != 0
        return int(context.trace_id[16:], 16) < self._bound

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Return the decision for a span: that of its parent or its request, or a new one if it has neither."""
        parent = trace.get_current_span(parent_context).get_span_context()
        request = request_context.current()
        if parent.is_valid and (self._follows_caller or not parent.is_remote):
            sampled = parent.trace_flags.sampled
        elif request is not None:
            sampled = request.trace_flags == _SAMPLED
        else:
            sampled = trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < self._bound
        decision = Decision.RECORD_AND_SAMPLE if sampled else Decision.DROP
        return SamplingResult(decision, attributes, parent.trace_state if parent.is_valid else None)

    def get_description(self) -> str:
        return self._name


class RequestTracer:
    """Builds the spans of sampled requests and of the operations in them."""

    def __init__(self, provider: TracerProvider, sampler: RequestSampler) -> None:
        self._sampler = sampler
        self._tracer = provider.get_tracer(__name__)
        # The spans of running requests by their ids, because a request may end in another task than it began in.
        self._spans: dict[str, trace.Span] = {}

    def begin(self, context: RequestContext, headers: Mapping[str, str]) -> None:
        """Decide whether a request is sampled, and start its span; a hook of the chassis."""
        if not self._sampler.samples(context):
            context.trace_flags = _NOT_SAMPLED
            return
        context.trace_flags = _SAMPLED
        parent = _parent(context)
        began = _nanoseconds_ago(time.perf_counter() - context.started)
        with _ids(int(context.trace_id, 16), context.span_id):
            span = self._tracer.start_span(
                _method(context), parent, SpanKind.SERVER, _attributes(context, headers), start_time=began
            )
        self._spans[context.span_id] = span
        # Not detached: each request has its own task, and work after the response also belongs to the request.
        attach(trace.set_span_in_context(span))

    def report(self, error: BaseException, error_id: str, context: RequestContext | None) -> None:
        """Add an error to the span of its request, without its text, which may contain secrets."""
        span = self._spans.get(context.span_id) if context else None
        if span is not None:
            stack = "".join(traceback.format_tb(error.__traceback__, limit=-_MAX_FRAMES))
            attributes = {"exception.type": _type_of(error), "exception.stacktrace": stack, "error_id": error_id}
            span.add_event("exception", attributes)

    def end(self, context: RequestContext) -> None:
        """End the span of a request; an observer of requests."""
        span = self._spans.pop(context.span_id, None)
        if span is None:
            return
        if context.route is not None:
            span.set_attribute("http.route", context.route)
            span.update_name(f"{_method(context)} {context.route}")
        if context.status:  # the status is 0 if the client disconnected before the response
            span.set_attribute("http.response.status_code", context.status)
        if context.is_failure:
            _fail(span, _type_of(context.error) if context.error else str(context.status))
        span.end()

    def record(self, operation: Operation) -> None:
        """Record an operation as a child of the current span, if that span is sampled; an observer of operations."""
        parent = trace.get_current_span().get_span_context()
        if not parent.trace_flags.sampled:
            return
        began = _nanoseconds_ago(operation.duration_seconds)
        with _ids(parent.trace_id, operation.span_id):
            span = self._tracer.start_span(
                operation.name, kind=SpanKind.CLIENT, attributes=operation.attributes, start_time=began
            )
        status = operation.attributes.get("http.response.status_code", 0)
        if isinstance(status, int) and status >= 400:
            _fail(span, str(status))
        elif operation.error is not None:
            _fail(span, _type_of(operation.error))
        span.end()


def _parent(context: RequestContext) -> Context:
    """Return a context with the caller's span, if it sent one, and give the request another span id."""
    parent = Context()
    if context.parent_span_id is None:
        return parent
    trace_id, span_id = int(context.trace_id, 16), int(context.parent_span_id, 16)
    state = TraceState.from_header([context.tracestate]) if context.tracestate else None
    caller = SpanContext(trace_id, span_id, True, TraceFlags(TraceFlags.SAMPLED), state)
    context.span_id = new_span_id()
    return trace.set_span_in_context(NonRecordingSpan(caller), parent)


def _attributes(context: RequestContext, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes of a request that are known before the framework has chosen the route."""
    attributes = {
        "http.request.method": context.method,
        "url.path": context.path,
        "url.scheme": context.scheme,
        "client.address": context.client_address,
        "request_id": context.request_id,
    }
    if context.method not in HTTP_METHODS:
        attributes |= {"http.request.method": OTHER, "http.request.method_original": context.method}
    if user_agent := headers.get("user-agent"):
        attributes["user_agent.original"] = user_agent
    return attributes


def _method(context: RequestContext) -> str:
    """Return the first word of a span's name."""
    return context.method if context.method in HTTP_METHODS else "HTTP"


def _fail(span: trace.Span, error_type: str) -> None:
    span.set_status(trace.StatusCode.ERROR)
    span.set_attribute("error.type", error_type)


def _type_of(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _nanoseconds_ago(seconds: float) -> int:
    """Return a time in the past, in nanoseconds since the epoch."""
    return time.time_ns() - int(seconds * 1_000_000_000)
