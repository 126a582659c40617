"""A collector that decodes what the service exports, over both protocols of OTLP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest as Request
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse as Response
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from .process import until


@dataclass(frozen=True)
class Exported:
    """A span as the collector receives it, with hexadecimal ids."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_span_id: str
    trace_state: str
    seconds: float
    is_error: bool
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    resource: dict[str, Any]


@dataclass
class Collector:
    """The spans and the headers so far. `respond` may wait, or return another status than 200."""

    url: str = ""
    spans: list[Exported] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    respond: Callable[[], int] = lambda: 200

    def accept(self, request: Any, headers: Iterator[tuple[str, str]]) -> None:
        self.headers.update(headers)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += [_exported(span, _values(resource.resource.attributes)) for span in scope.spans]

    def named(self, name: str) -> Exported:
        """Wait for the only span of this name, and return it."""
        until(lambda: name in [span.name for span in self.spans])
        (span,) = (span for span in self.spans if span.name == name)
        return span


def _exported(span: Span, resource: dict[str, Any]) -> Exported:
    return Exported(
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        trace_state=span.trace_state,
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        is_error=span.status.code == Status.STATUS_CODE_ERROR,
        attributes=_values(span.attributes),
        events=[(event.name, _values(event.attributes)) for event in span.events],
        resource=resource,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}


@contextmanager
def serving_collector(protocol: str = "http/protobuf", port: int = 0) -> Iterator[Collector]:
    """Serve on a port until the block ends."""
    collector = Collector()
    with (_grpc if protocol == "grpc" else _http)(collector, port) as used_port:
        collector.url = f"http://127.0.0.1:{used_port}"
        yield collector


@contextmanager
def _http(collector: Collector, port: int) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = collector.respond()
            if (self.path, status) == ("/v1/traces", 200):
                collector.accept(Request.FromString(body), ((k.lower(), v) for k, v in self.headers.items()))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Do not log requests."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


@contextmanager
def _grpc(collector: Collector, port: int) -> Iterator[int]:
    class Servicer(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
            collector.accept(request, iter(context.invocation_metadata()))
            return Response()

    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Servicer(), server)
        used_port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            yield used_port
        finally:
            server.stop(None).wait(5)
