"""Runs the service as a process of its own, for what only a process shows: signals, exit codes, the wire."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from ..package import PACKAGE, ROOT, environment
from ..servers import free_port

# How long a step of a process may take before the test fails: long, because a busy machine is no fault of the service.
PATIENCE_SECONDS = 60
# And how long it may take to start, with all that it imports.
START_SECONDS = 150
# Where a process finds the application of the tests, and the service as it lies here.
SOURCES = os.pathsep.join([str(ROOT), str(ROOT / "src")])
# Trusts nobody, as nothing here is encrypted: to read whom httpx trusts takes a hundred times as long as a request.
_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Process:
    """A service that listens on `port` and logs to a file in `folder`."""

    def __init__(self, folder: Path, *command: str, **variables: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # Not those of the process before: it may have left a worker that has still something to write.
        self._stdout, self._stderr = folder / f"stdout-{self.port}", folder / f"stderr-{self.port}"
        settings = {"ENVIRONMENT": "test", "PORT": str(self.port), "PYTHONPATH": SOURCES} | variables
        with self._stdout.open("w") as out, self._stderr.open("w") as err:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *(command or (PACKAGE, "serve"))],
                cwd=folder,
                env=environment(folder, **settings),
                stdout=out,
                stderr=err,
            )

    def wait_until_started(self, status: int = 200) -> None:
        """Return when the service says that it has started, or (503) that it is about to."""

        def started() -> bool:
            assert self.popen.poll() is None, self.stderr
            try:
                return self.get("/health/started").status_code == status
            except httpx.TransportError:
                return False

        until(started, START_SECONDS)
        if status == 200:  # the thread that has opened everything says so a moment later
            # As bytes: whether each line is JSON is for a test to say, not for what starts the process.
            until(lambda: b'"service_started"' in self._stdout.read_bytes())

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What was logged so far. A line that is no JSON fails the test."""
        has_ended = self.popen.poll() is not None
        *whole, last = self._stdout.read_bytes().split(b"\n")
        # The last line of a process that lives may just be on its way into the file.
        return [json.loads(line) for line in (*whole, *([last] if last and has_ended else []))]

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of one event."""
        return [line for line in self.lines if line["event"] == name]

    def send(self, signum: signal.Signals) -> None:
        self.popen.send_signal(signum)

    def exit_code(self) -> int:
        """Wait for the end of the process."""
        return self.popen.wait(PATIENCE_SECONDS)

    def client(self) -> httpx.Client:
        """Return a client that keeps its connections."""
        return httpx.Client(base_url=self.url, timeout=PATIENCE_SECONDS, verify=_NOBODY)

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        """Ask over a connection of its own."""
        with self.client() as client:
            return client.get(path, headers=headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)

    def exchange(self, raw: bytes, *, half_close: bool = False) -> bytes:
        """Send bytes as they are, and return all that comes back until the server closes the connection."""
        with self.connect() as connection:
            try:
                connection.sendall(raw)
                if half_close:  # nothing more will come
                    connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused in the middle; the answer is there all the same
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side closes."""
    received = b""
    try:
        while part := connection.recv(65_536):
            received += part
    except ConnectionResetError:
        pass
    return received


def until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until `condition()` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"this did not come true in {seconds} s"
        time.sleep(0.01)


@contextmanager
def serving(folder: Path, *command: str, started: bool = True, **variables: str) -> Iterator[Process]:
    """Run the service, started or just about to, until the block ends, by force if it must be."""
    process = Process(folder, *command, **variables)
    try:
        process.wait_until_started(200 if started else 503)
        yield process
    finally:
        process.popen.kill()
        process.popen.wait()
