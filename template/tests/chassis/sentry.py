"""A Sentry that receives envelopes (https://develop.sentry.dev/sdk/data-model/envelopes/) on a real socket."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ..servers import free_port
from .process import until

KEY = "0123456789abcdef0123456789abcdef"


@dataclass
class Sentry:
    """Records the events it receives; it responds with `status`, and hangs while `hangs` is set."""

    port: int = field(default_factory=free_port)
    status: int = 200
    hangs: bool = False
    asked: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    items: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def dsn(self) -> str:
        return f"http://{KEY}@127.0.0.1:{self.port}/42"

    def received(self, kind: str, number: int = 1) -> list[dict[str, Any]]:
        """Wait for a number of items of a kind (`event` or `transaction`), and return all of them."""

        def found() -> list[dict[str, Any]]:
            return [item for of, item in list(self.items) if of == kind]

        until(lambda: len(found()) >= number)
        return found()

    def read(self, body: bytes) -> None:
        """Record the items of an envelope."""
        self.bodies.append(body)
        rest = body.partition(b"\n")[2]
        while rest:
            head, _, rest = rest.partition(b"\n")
            header = json.loads(head)
            payload, rest = rest[: header["length"]], rest[header["length"] + 1 :]
            self.items.append((header["type"], json.loads(payload)))


@contextmanager
def serving_sentry(sentry: Sentry) -> Iterator[Sentry]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sentry.asked.set()
            if sentry.hangs:
                sentry.over.wait()
            assert self.path == "/api/42/envelope/"
            assert KEY in self.headers["X-Sentry-Auth"]
            if sentry.status == 200:
                sentry.read(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(sentry.status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", sentry.port), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield sentry
        finally:
            sentry.over.set()
            server.shutdown()
            thread.join()
