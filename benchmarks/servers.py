"""Services as processes: started, seeded, stopped. Their log goes through a pipe that another process empties."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

APPS = Path(__file__).parent / "apps"
SINK = Path(__file__).with_name("sink.py")
# How long a busy machine may take to start or stop a service, and to respond to a request that is not measured.
PATIENCE_SECONDS = 180
ANSWER_SECONDS = 60


class NotReadyError(Exception):
    """The service responds but is not ready yet."""


@dataclass(frozen=True)
class Server:
    """A service that listens on `port`."""

    port: int
    pid: int

    def get(self, path: str) -> bytes:
        """Return the body of a response, which must be a 2xx."""
        return self._ask("GET", path)

    def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> bytes:
        return self._ask("POST", path, json.dumps(body), {"content-type": "application/json", **(headers or {})})

    def _ask(self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            if response.status == 503:
                raise NotReadyError(f"{method} {path} got 503")
            if response.status >= 300:
                raise RuntimeError(f"{method} {path} got {response.status}")
            return response.read()
        finally:
            connection.close()


@contextmanager
def running(framework: str, variant: str, service: Path, variables: Mapping[str, str]) -> Iterator[Server]:
    """Run a variant of `apps/<framework>_app.py` in a rendered service's folder, with more environment variables."""
    command = [sys.executable, str(APPS / f"{framework}_app.py"), variant]
    reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    with reserved_port() as port:
        with cast(IO[bytes], reader.stdin) as pipe, (service / f"{variant}.log").open("w") as faults:
            settings = environment(service, port) | variables
            process = subprocess.Popen(command, cwd=service, env=settings, stdout=pipe, stderr=faults)
        try:
            server = Server(port, process.pid)
            _wait(server, process, Path(faults.name))
            yield server
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_SECONDS)
            reader.wait(PATIENCE_SECONDS)


@contextmanager
def running_all(
    framework: str, apps: Mapping[str, tuple[str, Path]], variables: Mapping[str, str], *, shared: bool
) -> Iterator[dict[str, Server]]:
    """Run a server for each of `apps`: a variant of `apps/<framework>_app.py`, and the folder of a rendered service.

    With `shared`, equal apps share one process. Otherwise each app has its own process, so that the difference between
    the figures of equal apps shows the noise.
    """
    servers: dict[str, Server] = {}
    started: dict[object, Server] = {}
    with ExitStack() as stack:
        for name, app in apps.items():
            key = app if shared else name
            if key not in started:
                started[key] = stack.enter_context(running(framework, *app, variables))
            servers[name] = started[key]
        yield servers


def environment(service: Path, port: int = 0) -> dict[str, str]:
    """Return the environment of a process that finds the service's package; most settings are defaults."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(service / "src"),
        "PORT": str(port),
        "METRICS_PORT": "0",  # any free port
        "SERVICE_VERSION": "0.1.0",  # the package is not installed, so its version is not known
        "SHUTDOWN_DRAIN_SECONDS": "0",
        "RATE_LIMIT_DEFAULT": "100000000/minute",  # counts as usual, rejects no request
    }


@contextmanager
def sink() -> Iterator[dict[str, str]]:
    """Run a server that accepts errors and traces, and return the settings that send them there."""
    process = subprocess.Popen([sys.executable, str(SINK)], stdout=subprocess.PIPE, text=True)
    try:
        port = cast(IO[str], process.stdout).readline().strip()
        yield {
            "SENTRY_DSN": f"http://public@127.0.0.1:{port}/1",
            "SENTRY_TRACES_SAMPLE_RATE": "0.1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.1",
        }
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def migrate(service: Path) -> None:
    """Create the database."""
    command = [sys.executable, "-m", "my_service", "migrate"]
    subprocess.run(command, cwd=service, env=environment(service), check=True, stdout=subprocess.DEVNULL)


@contextmanager
def reserved_port() -> Iterator[int]:
    """Reserve a port: it stays bound, so no other process gets it, and SO_REUSEADDR lets a server listen on it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def _wait(server: Server, process: subprocess.Popen[bytes], faults: Path) -> None:
    """Wait until the service responds.

    Raises:
        RuntimeError: The service ended or did not respond in time.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            server.get("/hello")
        except (OSError, NotReadyError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"a service did not start: {process.args!r}\n{faults.read_text()[-2000:]}")
