"""Runs the service as a process, to test signals, exit codes, and the bytes on its connections."""

from __future__ import annotations

import os
import re
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
from .log_entries import parse

# How long one step may take before its test fails: long, so that no test fails on a busy machine.
PATIENCE_SECONDS = 60
# How long a process may take to start, its imports included.
START_SECONDS = 150
# The import path of the processes, with the tests and the service.
SOURCES = os.pathsep.join([str(ROOT), str(ROOT / "src")])
# Connections are not encrypted, and loading the certificates of httpx takes a hundred times as long as a request.
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Process:
    """A service that listens on `port` and logs to a file in `folder`; `{port}` in its command is replaced."""

    def __init__(self, folder: Path, *command: str, **variables: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # The port keeps the files of processes in one folder apart.
        self._stdout, self._stderr = folder / f"stdout-{self.port}", folder / f"stderr-{self.port}"
        self._entries: list[dict[str, Any]] = []
        settings = {"ENVIRONMENT": "test", "PORT": str(self.port), "PYTHONPATH": SOURCES} | variables
        with self._stdout.open("w") as out, self._stderr.open("w") as err:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *(part.format(port=self.port) for part in command or (PACKAGE, "serve"))],
                cwd=folder,
                env=environment(folder, **settings),
                stdout=out,
                stderr=err,
            )

    def wait_until_started(self, status: int = 200) -> None:
        """Return when `/health/started` responds with `status`: 200 after the start, 503 before."""

        def started() -> bool:
            assert self.popen.poll() is None, self.stderr
            try:
                self.connect().close()  # a connection takes a tenth of the time of a request
                return self.get("/health/started").status_code == status
            except (OSError, httpx.TransportError):
                return False

        until(started, START_SECONDS)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log entries so far. A line that does not match docs/log-schema.json fails the test."""
        has_ended = self.popen.poll() is not None
        *whole, last = self._stdout.read_bytes().split(b"\n")
        self._entries += map(parse, whole[len(self._entries) :])
        # The last line of a running process may be incomplete.
        return [*self._entries, *([parse(last)] if last and has_ended else [])]

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log entries of one event."""
        return [line for line in self.lines if line["event"] == name]

    def finished(self, request_id: str) -> dict[str, Any]:
        """Wait for the access log entry of a request, and return it."""

        def found() -> list[dict[str, Any]]:
            return [entry for entry in self.events("request_finished") if entry["request_id"] == request_id]

        until(found)
        (entry,) = found()
        return entry

    @property
    def memory_bytes(self) -> int:
        """The resident memory of the process; 0 where there is no /proc."""
        status = Path(f"/proc/{self.popen.pid}/status")
        if not status.exists():
            return 0
        (kibibytes,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
        return int(kibibytes) * 1024

    def send(self, signum: signal.Signals) -> None:
        self.popen.send_signal(signum)

    def exit_code(self) -> int:
        """Wait for the end of the process and return its exit code."""
        return self.popen.wait(PATIENCE_SECONDS)

    def client(self) -> httpx.Client:
        """Return a client that keeps its connections open."""
        return httpx.Client(base_url=self.url, timeout=PATIENCE_SECONDS, verify=_NO_CERTIFICATES)

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        """Send a GET request over a new connection."""
        with self.client() as client:
            return client.get(path, headers=headers)

    def connect(self, receive_buffer_bytes: int = 0) -> socket.socket:
        """Open a connection; a small receive buffer makes the service notice soon that the client does not read."""
        connection = socket.socket()
        connection.settimeout(PATIENCE_SECONDS)
        if receive_buffer_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        try:
            connection.connect(("127.0.0.1", self.port))
        except OSError:
            connection.close()
            raise
        return connection

    def exchange(self, raw: bytes, *, half_close: bool = False) -> bytes:
        """Send bytes, and return everything until the server closes the connection.

        Args:
            raw: The bytes of one or more requests.
            half_close: Whether the client ends its side of the connection afterwards.
        """
        with self.connect() as connection:
            try:
                connection.sendall(raw)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # rejected before the last byte; the response can still be read
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side closes the connection."""
    received = b""
    try:
        while part := connection.recv(65_536):
            received += part
    except ConnectionResetError:
        pass
    return received


def read_response(connection: socket.socket) -> bytes:
    """Read one response with a Content-Length from a connection that stays open."""
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        if end:
            length = re.search(rb"content-length: (\d+)", head.lower())
            assert length, head
            if len(body) >= int(length[1]):
                return received
        part = connection.recv(65_536)
        assert part, f"the connection was closed after {received!r}"
        received += part


def until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until `condition()` is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"this did not become true within {seconds} s"
        time.sleep(0.01)


@contextmanager
def serving(folder: Path, *command: str, started: bool = True, **variables: str) -> Iterator[Process]:
    """Run the service until the block ends, then kill it.

    Args:
        folder: The working directory, which also gets the output.
        command: The arguments of `python -m`; by default those that serve your service.
        started: Whether the block begins after the start of the service, or while it waits for its dependencies.
        variables: Environment variables.
    """
    process = Process(folder, *command, **variables)
    try:
        process.wait_until_started(200 if started else 503)
        yield process
    finally:
        process.popen.kill()
        process.popen.wait()
