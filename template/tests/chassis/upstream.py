"""Another service on a real socket, which responds as a test tells it to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Received:
    """One request; `connection` is the port of the client."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class Upstream:
    """Applies one behaviour per request, repeats the last one, and records the requests."""

    url: str = ""
    behaviours: list[Behaviour] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def respond(self, *behaviours: Behaviour) -> None:
        """Set the behaviours for the following requests."""
        self.behaviours[:] = behaviours


def status(code: int, body: bytes = b"{}", **headers: str) -> Behaviour:
    """Respond with a status; names of headers are written with underscores."""
    sent = b"" if code == 204 else body

    def respond(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in {"content_length": str(len(sent)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(sent)

    return respond


def cut(request: BaseHTTPRequestHandler) -> None:
    """Close the connection without a response."""
    request.close_connection = True


@contextmanager
def serving_upstream() -> Iterator[Upstream]:
    """Serve on a free port until the block ends."""
    upstream = Upstream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the caller has given up

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            upstream.received.append(Received(self.command, self.path, headers, body, self.client_address[1]))
            behave = upstream.behaviours.pop(0) if len(upstream.behaviours) > 1 else upstream.behaviours[0]
            behave(self)

        def log_message(self, *_: Any) -> None:
            """Do not log requests."""

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.do)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True  # an idle connection must not delay the end of the tests
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    upstream.url = f"http://127.0.0.1:{server.server_port}"
    upstream.respond(status(200))
    try:
        yield upstream
    finally:
        upstream.over.set()
        server.shutdown()
        thread.join(5)
        server.server_close()
