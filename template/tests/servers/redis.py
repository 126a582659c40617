"""A Redis of the tests' own, or a Valkey."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import pytest

BINARIES = ("redis-server", "valkey-server")
PATIENCE_SECONDS = 20
# Nothing listens on this port; a Redis that happens to run on the machine is never touched.
NOWHERE = "redis://127.0.0.1:1/0"


class Server:
    """A server in a folder of its own, which a test may stop, freeze and start again on the same port."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        self._folder = tempfile.mkdtemp(prefix="redis-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.remove)

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder, "--save", ""]
        self._process = subprocess.Popen([self._binary, *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, f"{self._binary} did not start in {PATIENCE_SECONDS} s"
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def connections(self) -> int:
        """Return how many clients are connected, this question not counted."""
        return self._ask(b"CLIENT LIST\r\n").count(b"id=") - 1

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return self._ask(b"PING\r\n").startswith(b"+PONG")
        except OSError:
            return False

    def _ask(self, command: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(command)
            return connection.recv(65_536)


def binary() -> str | None:
    """Return where a server is, if there is one."""
    return next(filter(None, map(shutil.which, BINARIES)), None)


def require() -> str:
    """Return where a server is; without one the test is skipped, or fails where CI is true."""
    found = binary()
    if found is None:
        absent = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        absent("needs a redis-server: apt install redis-server")
    return str(found)


@cache
def _shared(path: str) -> Server:
    server = Server(path)
    server.start()
    return server


def settings(folder: Path) -> dict[str, str]:
    """Return the settings of a service: a server for the session, and in it a name for the test."""
    found = binary()
    name = "-".join(folder.parts[-2:])
    # A machine that is busy with tests is no outage; those of outages have a time of their own.
    patience = {"CACHE_TIMEOUT_SECONDS": "10"} if found else {}
    return {"REDIS_URL": _shared(found).url if found else NOWHERE, "CACHE_NAMESPACE": name} | patience
