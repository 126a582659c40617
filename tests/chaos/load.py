"""Generates steady load from a separate process: writes notes with unique titles and reads them back.

Clients reuse their connections, unless they are told to renew them. Each starts a request at its turn, or as soon as
the previous one is answered. Every response is a JSON line on stdout. The load ends when stdin is closed.
"""

import http.client
import itertools
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

NOTES = "/api/v1/notes"
# More clients than a synchronous service has threads, and fewer than the pool has connections.
CLIENTS = 12
PAUSE_SECONDS = 0.2
# A request without a response after this time counts as hanging.
HANG_SECONDS = 20


@dataclass(frozen=True)
class Request:
    """One request. `at` is the monotonic clock, which all processes of a machine share; status 0 means no response."""

    at: float
    seconds: float
    title: str
    written: bool
    status: int
    retry_after: bool
    wrong: str = ""
    error: str = ""

    @property
    def until(self) -> float:
        return self.at + self.seconds


class Client(threading.Thread):
    """One connection to the service; every other request is a write."""

    def __init__(self, address: str, number: int, stop: threading.Event, renews: bool, token: str) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._connection = http.client.HTTPConnection(address, timeout=HANG_SECONDS)
        self._stop_now = stop
        self._renews = renews
        self._headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
        self._begin = time.monotonic() + number * PAUSE_SECONDS / CLIENTS
        self._kept: dict[str, str] = {}

    def run(self) -> None:
        for turn in itertools.count():
            self._begin = max(self._begin + PAUSE_SECONDS, time.monotonic())
            if self._stop_now.wait(self._begin - time.monotonic()):
                return
            done = self._write() if turn % 2 == 0 or not self._kept else self._read()
            sys.stdout.write(json.dumps(asdict(done)) + "\n")

    def _write(self) -> Request:
        title = f"{random.getrandbits(64):016x}"
        status, headers, seconds = self._ask("POST", NOTES, {"title": title, "body": title})
        if status == 201:
            self._kept[headers["location"]] = title
        return Request(self._begin, seconds, title, True, status, "retry-after" in headers, error=self._error)

    def _read(self) -> Request:
        path = random.choice(list(self._kept))  # noqa: S311
        title = self._kept[path]
        status, headers, seconds = self._ask("GET", path)
        wrong = "lost" if status == 404 else ""
        if status == 200 and (self._found["title"], self._found["body"]) != (title, title):
            wrong = "another note"
        return Request(self._begin, seconds, title, False, status, "retry-after" in headers, wrong, self._error)

    def _ask(self, method: str, path: str, content: object = None) -> tuple[int, dict[str, str], float]:
        body = json.dumps(content) if content else None
        self._error = ""
        try:
            self._connection.request(method, path, body, self._headers)
            answer = self._connection.getresponse()
            text = answer.read()
            if self._renews:
                self._connection.close()
        except (OSError, http.client.HTTPException) as error:
            self._error = repr(error)
            self._connection.close()
            return 0, {}, time.monotonic() - self._begin
        try:
            self._found = json.loads(text)
        except ValueError:
            self._error = f"{answer.status} with {text[:80]!r}"
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, time.monotonic() - self._begin


@contextmanager
def load(url: str, answers: Path, *, renews: bool = False, token: str = "") -> Iterator[None]:
    """Generate load on a service during the block; the responses are in `answers` afterwards."""
    with answers.open("wb") as output:
        command = [sys.executable, __file__, url, token, *(["--renew"] * renews)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output)
    try:
        yield
    finally:
        process.communicate(timeout=HANG_SECONDS + 10)


def read(answers: Path) -> list[Request]:
    """Return the requests in the order of their responses."""
    return [Request(**json.loads(line)) for line in answers.read_text().splitlines()]


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    stop = threading.Event()
    renews = "--renew" in sys.argv
    address, token = urlsplit(sys.argv[1]).netloc, sys.argv[2]
    clients = [Client(address, number, stop, renews, token) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    sys.stdin.read()
    stop.set()
    for client in clients:
        client.join(HANG_SECONDS)


if __name__ == "__main__":
    main()
