"""Load on a service while it is deployed: clients that keep their connection, and clients that open one per request."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

NOTES = "/api/v1/notes"
CLIENTS = 4
PAUSE_SECONDS = 0.1
# A request without a response after this time is lost.
LOST_SECONDS = 90


@dataclass
class Outcome:
    """The requests of all clients: how many, those without a successful response, and the slowest one."""

    requests: int = 0
    lost: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0


class Client(threading.Thread):
    """Sends GET and POST in turn. An even number keeps its connection, an odd one opens a new one for each request."""

    def __init__(self, port: int, number: int, stop: threading.Event, outcome: Outcome) -> None:
        super().__init__(daemon=True)
        self._connection = HTTPConnection("127.0.0.1", port, timeout=LOST_SECONDS)
        self._keeps = number % 2 == 0
        self._stop_now = stop
        self._outcome = outcome
        self.responses = 0

    def run(self) -> None:
        while not self._stop_now.wait(PAUSE_SECONDS):
            method = "GET" if self.responses % 2 else "POST"
            began = time.monotonic()
            try:
                status = self._ask(method)
            except (OSError, HTTPException) as error:
                status, reason = 0, repr(error)
                self._connection.close()
            else:
                reason = f"status {status}"
            if status not in (200, 201):
                self._outcome.lost.append(f"{method} after {time.monotonic() - began:.1f} s: {reason}")
            self.responses += 1
            self._outcome.requests += 1
            self._outcome.longest_seconds = max(self._outcome.longest_seconds, time.monotonic() - began)

    def _ask(self, method: str) -> int:
        if not self._keeps:
            self._connection.close()
        note = json.dumps({"title": uuid.uuid4().hex, "body": "Stow it low."})
        body, path = (note, NOTES) if method == "POST" else (None, f"{NOTES}?limit=1")
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        response.read()
        return response.status


@contextmanager
def load(port: int) -> Iterator[Outcome]:
    """Send requests to a port of this machine during the block."""
    outcome, stop = Outcome(), threading.Event()
    clients = [Client(port, number, stop, outcome) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield outcome
    finally:
        stop.set()
        for client in clients:
            client.join()
