"""Other services that a rendered service calls: a mail server, webhooks, and an identity provider with its keys."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
from aiosmtpd.controller import Controller
from cryptography.hazmat.primitives.asymmetric import rsa
from private_servers import reserved_port
from websockets.sync.client import connect

CHANNELS = ("email", "discord", "slack", "sms")
_TITLE = re.compile(rb"\b[0-9a-f]{16}\b")
_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_JWK = {**jwt.algorithms.RSAAlgorithm.to_jwk(_KEY.public_key(), as_dict=True), "kid": "known", "use": "sig"}


def token(kid: str = "known") -> str:
    """Return an access token that is valid for a day, unless no key has its id."""
    claims = {"sub": "chaos", "exp": int(time.time()) + 86_400}
    return jwt.encode(claims, _KEY, "RS256", {"kid": kid})


@dataclass
class Inbox:
    """The titles of notes that arrived at one place, each with its time. A lossy one may miss some during a fault."""

    lossy: bool = False
    received: list[tuple[float, str]] = field(default_factory=list)

    def take(self, content: bytes) -> None:
        found = _TITLE.search(content)
        assert found, content
        self.received.append((time.monotonic(), found[0].decode()))

    def first(self, since: float) -> float | None:
        """Return when something arrived for the first time since then."""
        return next((at for at, _ in self.received if at >= since), None)


class Mail:
    """A mail server without TLS."""

    def __init__(self, inbox: Inbox, stack: ExitStack) -> None:
        self._inbox = inbox
        self.port = stack.enter_context(reserved_port())
        controller = Controller(self, hostname="127.0.0.1", port=self.port)
        controller.start()
        stack.callback(controller.stop)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self._inbox.take(envelope.content)
        return "250 OK"


class Web:
    """An HTTP server: its webhooks receive messages, and all other paths return the key set."""

    def __init__(self, inboxes: dict[str, Inbox], stack: ExitStack) -> None:
        self.status = 200
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._respond(json.dumps({"keys": [_JWK]}).encode())

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                content = self.rfile.read(length)
                if len(content) < length:  # the fault cut it off
                    self.close_connection = True
                    return
                if web.status == 200:
                    inboxes.get(self.path.strip("/").partition("?")[0], inboxes["sms"]).take(content)
                self._respond(b"{}")

            def _respond(self, body: bytes) -> None:
                self.send_response(web.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Do not log requests."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.port = server.server_port
        Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.server_close)
        stack.callback(server.shutdown)


@contextmanager
def listening(url: str, inbox: Inbox) -> Iterator[None]:
    """Be a WebSocket client of a service during the block."""

    def listen() -> None:
        for message in client:
            inbox.take(str(message).encode())

    with connect(url.replace("http", "ws", 1) + "/rooms/notes") as client:
        thread = Thread(target=listen, daemon=True)
        thread.start()
        yield
    thread.join(10)
