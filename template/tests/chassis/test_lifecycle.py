"""The lifecycle of the process: startup, output, and shutdown without losing a request."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest
import uvicorn

from ..package import PACKAGE, ROOT, environment, module
from ..servers import free_port
from .application import create_app
from .conftest import FAULTS, Logs, Start, settings_for_tests
from .process import PATIENCE_SECONDS, SOURCES, START_SECONDS, Process, read_all, serving, until

FIELDS = {"timestamp", "level", "event", "logger", "service.name", "service.version", "deployment.environment.name"}
STEPS = [
    *("settings_loaded", "logging_configured", "features_installed", "listening", "service_started"),
    *("draining_started", "service_stopped"),
]
# The drain is ended by a second SIGTERM, so that no test waits for its time.
PATIENT = {"SHUTDOWN_DRAIN_SECONDS": "600", "SHUTDOWN_TIMEOUT_SECONDS": "60", "REQUEST_TIMEOUT_SECONDS": "600"}


UNSHARE = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]


def may_unshare() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0


def get(path: str) -> bytes:
    """Return a GET request after which the connection is closed."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


# -- start -------------------------------------------------------------------------------------------------------------


def test_service_started_and_stopped_logs_each_step_as_json(folder: Path) -> None:
    """`python -m <package> serve` writes nothing to stderr and exits with 0."""
    with serving(folder, PACKAGE, "serve", SHUTDOWN_DRAIN_SECONDS="0") as process:
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
        assert process.stderr == ""
        assert all(entry.keys() >= FIELDS for entry in process.lines)
        events = [entry["event"] for entry in process.lines]
        assert [event for event in events if event in STEPS] == STEPS
        (listening,) = process.events("listening")
        assert listening["url"] == process.url
        has_docs = "api_docs_enabled" in module("chassis.features").ChassisSettings.model_fields
        assert listening.get("docs") == (f"{process.url}/docs" if has_docs else None)
        ours = [entry["event"] for entry in process.lines if entry["logger"].startswith(PACKAGE)]
        assert all(re.fullmatch(r"[a-z0-9_]+", event) for event in ours)
        servers = [entry for entry in process.lines if entry["logger"] == "uvicorn.error"]
        assert [entry["event"] for entry in servers if entry["level"] == "warning"] == []


@pytest.mark.parametrize(("command", "code"), [("serve", 0), ("check", 128 + signal.SIGTERM)])
def test_sigterm_during_the_imports_ends_the_process(folder: Path, command: str, code: int) -> None:
    """Process 1 of a container ignores a signal without a handler. For `serve`, SIGTERM is a normal end."""
    # The working folder comes first in the import path.
    hang = "import pathlib, time; pathlib.Path('importing').touch(); time.sleep(600)"
    (folder / "pydantic.py").write_text(hang)
    process = Process(folder, PACKAGE, command)
    try:
        until((folder / "importing").exists)
        process.send(signal.SIGTERM)
        assert process.exit_code() == code
        assert process.stderr == ""
    finally:
        process.popen.kill()
        process.popen.wait()


@pytest.mark.skipif(not may_unshare(), reason="this machine does not let the test create a PID namespace")
def test_sigterm_during_the_imports_ends_process_1(folder: Path) -> None:
    """The kernel does not deliver a signal to process 1 of a namespace that has no handler for it."""
    (folder / "pydantic.py").write_text("import os, signal; os.kill(1, signal.SIGTERM); import time; time.sleep(5)")
    command = [*UNSHARE, sys.executable, "-m", PACKAGE, "serve"]
    environ = environment(folder, PYTHONPATH=SOURCES)
    assert subprocess.run(command, cwd=folder, env=environ, timeout=PATIENCE_SECONDS).returncode == 0


UNAVAILABLE = {"FAULTY_DEPENDENCY": "release", "SHUTDOWN_DRAIN_SECONDS": "60"}


def test_start_without_a_dependency_ends_with_exit_code_69(folder: Path) -> None:
    """It ends after STARTUP_TIMEOUT_SECONDS, with one log entry that names the cause in a sentence."""
    process = Process(folder, *FAULTS, **UNAVAILABLE, STARTUP_TIMEOUT_SECONDS="0.5")
    assert process.exit_code() == 69
    assert process.events("service_started") == []
    (failed,) = [entry for entry in process.lines if entry["level"] == "error"]
    assert (failed["event"], failed["cause"]) == ("startup_failed", "The service is temporarily unavailable.")
    assert "Traceback" not in str(failed)
    assert process.stderr == ""


def test_start_on_an_occupied_port_ends_with_exit_code_69(folder: Path, running: Process) -> None:
    """It ends with one log entry that names the port."""
    process = Process(folder, *FAULTS, PORT=str(running.port))
    assert process.exit_code() == 69
    (failed,) = [entry for entry in process.lines if entry["level"] == "error"]
    assert (failed["event"], failed["port"]) == ("listen_failed", running.port)
    assert process.events("service_started") == []
    assert process.stderr == ""


def test_service_that_is_starting_answers_probes_and_rejects_requests(folder: Path) -> None:
    """Until the dependency is available it is alive but not ready, and requests get 503 with Retry-After."""
    with serving(folder, *FAULTS, **UNAVAILABLE, STARTUP_TIMEOUT_SECONDS="60", started=False) as process:
        assert process.get("/health/live").status_code == 200
        assert process.get("/health/started").status_code == 503
        assert process.get("/health/ready").status_code == 503
        response = process.get("/api/things/7")
        assert (response.status_code, response.json()["error_code"]) == (503, "UNAVAILABLE")
        assert int(response.headers["retry-after"]) > 0
        assert response.headers["content-type"] == "application/problem+json"
        until(lambda: process.events("faulty_unavailable"))
        assert process.events("service_started") == []

        (folder / "release").touch()
        process.wait_until_started()
        assert process.get("/health/ready").status_code == 200
        assert process.get("/api/things/7").status_code == 200
        assert [entry["dependency"] for entry in process.events("dependency_opened")][-1] == "faulty"
        assert len(process.events("service_started")) == 1


def test_service_that_is_starting_stops_at_once(folder: Path) -> None:
    """A service that is still starting stops without a drain and exits with 0."""
    with serving(folder, *FAULTS, **UNAVAILABLE, STARTUP_TIMEOUT_SECONDS="60", started=False) as process:
        process.send(signal.SIGTERM)
        assert process.popen.wait(30) == 0
        assert process.events("startup_failed") == []
        assert process.stderr == ""


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return socket.has_dualstack_ipv6()
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize(
    ("host", "clients"), [("::", ["127.0.0.1", "::1"]), ("::1", ["::1"])], ids=["every address", "one address"]
)
def test_service_on_an_ipv6_address_serves_all_its_clients(folder: Path, host: str, clients: list[str]) -> None:
    """HOST=:: accepts IPv4 and IPv6. The log has each client's usual address. The image's health check succeeds."""
    process = Process(folder, *FAULTS, HOST=host)
    try:
        until(lambda: process.events("service_started"), START_SECONDS)
        for number, client in enumerate(clients):
            with socket.create_connection((client, process.port), PATIENCE_SECONDS) as connection:
                connection.sendall(get("/nowhere").replace(b"Connection:", b"X-Request-ID: %d\r\nConnection:" % number))
                assert read_all(connection).startswith(b"HTTP/1.1 404")
            assert process.finished(str(number))["client.address"] == client
        assert health_check_of_the_image(folder, HOST=host, PORT=str(process.port)) == 0
        assert health_check_of_the_image(folder, HOST=host, PORT=str(free_port())) == 1
    finally:
        process.popen.kill()
        process.popen.wait()


def health_check_of_the_image(folder: Path, **variables: str) -> int:
    """Run the HEALTHCHECK of the Dockerfile and return its exit code."""
    command = re.search(r"^HEALTHCHECK .*?CMD (\[.*?\])$", (ROOT / "Dockerfile").read_text(), re.DOTALL | re.MULTILINE)
    assert command
    _, *arguments = json.loads(command[1])
    environ = environment(folder, **variables)
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environ, capture_output=True).returncode


def test_service_is_served_by_another_asgi_server(folder: Path) -> None:
    """uvicorn's own command serves `<package>.asgi:app`, with the middleware and its resources."""
    with serving(folder, "uvicorn", f"{PACKAGE}.asgi:app", "--port={port}", "--log-level=warning") as process:
        assert process.get("/health/ready").status_code == 200
        response = process.get("/nowhere", {"X-Request-ID": "other-server-1"})
        assert (response.status_code, response.json()["request_id"]) == (404, "other-server-1")
        assert process.finished("other-server-1")["http.response.status_code"] == 404


def test_invalid_settings_end_another_asgi_server_with_one_sentence(folder: Path) -> None:
    process = Process(folder, "uvicorn", f"{PACKAGE}.asgi:app", PORT="many")
    assert process.exit_code() == 78
    assert re.fullmatch(r"The settings have 1 problem:\n  PORT: [^\n]+\n", process.stderr)


@pytest.mark.parametrize("is_grouped", [False, True], ids=["alone", "in a group"])
@pytest.mark.parametrize("error", ["SettingsError", "UnavailableError"])
def test_failed_start_under_another_asgi_server_is_one_entry_without_traceback(
    start: Start, logs: Logs, error: str, is_grouped: bool
) -> None:
    """The dependency rejects its settings, or remains unavailable."""
    fault = {
        "SettingsError": module("chassis.settings").SettingsError(["DATABASE_URL: it is wrong; correct it"]),
        "UnavailableError": module("chassis.errors").UnavailableError(),
    }[error]

    @contextmanager
    def fail() -> Iterator[None]:
        raise ExceptionGroup("tasks", [fault]) if is_grouped else fault
        yield

    def install(chassis: Any) -> None:
        chassis.lifespans.append(("faulty", fail))

    with pytest.raises(AssertionError, match=r"startup\.failed"):
        start(install=install, startup_timeout_seconds=0.01)
    (failed,) = [entry for entry in logs() if entry["level"] == "error"]
    assert (failed["event"], failed["cause"]) == ("startup_failed", str(fault))
    assert "exception" not in failed


def test_service_with_fewer_descriptors_than_connections_warns(folder: Path) -> None:
    """It could not answer probes while all connections are open."""
    with serving(folder, *FAULTS, MAX_CONNECTIONS="100000000") as process:
        (warning,) = process.events("file_descriptor_limit_low")
        assert (warning["level"], warning["max_connections"]) == ("warning", 100_000_000)


# -- output ------------------------------------------------------------------------------------------------------------


def test_entries_of_all_origins_have_one_form(running: Process) -> None:
    """Entries of structlog, a library, Python's warnings and the server go to stdout. Stderr is empty."""
    assert running.get("/api/here/log-everywhere").status_code == 200
    until(lambda: any("warning of Python" in entry["event"] for entry in running.lines))
    assert {"structlog_entry", "standard library entry", "service_started"} <= {e["event"] for e in running.lines}
    assert "uvicorn.error" in {entry["logger"] for entry in running.lines}
    assert all(entry.keys() >= FIELDS for entry in running.lines)
    assert running.stderr == ""


def test_garbage_collection_excludes_the_objects_of_the_start(running: Process) -> None:
    # The modules of the service and its libraries alone have more objects than this.
    assert running.get("/api/here/frozen").json() > 10_000


def test_crash_is_logged_once(running: Process) -> None:
    """The server does not write the traceback a second time."""
    assert running.get("/api/here/crash", {"X-Request-ID": "crash-1"}).status_code == 500
    assert running.finished("crash-1")["http.response.status_code"] == 500
    (failed,) = [entry for entry in running.lines if "hunter2" in str(entry)]
    assert (failed["event"], failed["request_id"]) == ("request_failed", "crash-1")


@pytest.mark.parametrize("way", ["here", "thread", "task", "background"])
def test_handler_that_raises_system_exit_does_not_end_the_service(running: Process, way: str) -> None:
    """The handler may raise it on the event loop, in a thread, in a task that it started, or after the response."""
    assert running.get(f"/api/{way}/leave").status_code == (200 if way == "background" else 500)
    assert running.get("/api/things/7").status_code == 200


# -- stop --------------------------------------------------------------------------------------------------------------


def test_signal_handler_only_schedules(logs: Logs) -> None:
    """A signal may interrupt a write to the log, which is not reentrant."""
    app = create_app(settings_for_tests(), module("chassis.features").FEATURES, {})
    middleware = module("chassis.app").asgi_app(app)
    server = module("chassis.server.uvicorn").DrainingServer(uvicorn.Config(middleware), middleware, 1)
    lifecycle = module("chassis.app").chassis_of(app).lifecycle
    logs()

    async def interrupt() -> None:
        frame: FrameType = sys._getframe()
        entries = len(logs())
        server.handle_exit(signal.SIGTERM, frame)
        assert not lifecycle.draining
        assert len(logs()) == entries
        await asyncio.sleep(0)
        assert lifecycle.draining

    asyncio.run(interrupt())
    assert len(logs("draining_started")) == 1


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_shutdown_drains_then_finishes_requests_then_closes_resources(folder: Path, signum: signal.Signals) -> None:
    """During the drain the service is not ready and serves with `Connection: close`. It exits with 0."""
    with (
        serving(folder, *FAULTS, FAULTY_DEPENDENCY=".", **PATIENT) as process,
        process.client() as kept,
        process.connect() as in_flight,
    ):
        assert "connection" not in kept.get("/api/things/7").headers
        in_flight.sendall(get("/api/thread/wait"))
        until(lambda: process.events("waiting"))

        process.send(signum)
        until(lambda: process.events("draining_started"))
        assert process.get("/health/ready").status_code == 503
        assert process.get("/health/live").status_code == 200
        for response in (kept.get("/api/things/7"), process.get("/api/things/8")):
            assert response.status_code == 200
            assert response.headers["connection"] == "close"

        process.send(signal.SIGTERM)
        until(lambda: refuses_connections(process))
        assert process.popen.poll() is None
        (folder / "release").touch()
        assert read_all(in_flight).startswith(b"HTTP/1.1 200")
        assert process.exit_code() == 0
        ends = ("waited", "faulty_closed", "service_stopped")
        assert [entry["event"] for entry in process.lines if entry["event"] in ends] == list(ends)
        assert process.stderr == ""


def refuses_connections(process: Process) -> bool:
    try:
        process.connect().close()
    except OSError:
        return True
    return False


def test_shutdown_gives_up_requests_after_its_timeout(folder: Path) -> None:
    """Whether a request hangs on the event loop or in a thread, resources are closed and the exit code is 0."""
    limits = {"SHUTDOWN_DRAIN_SECONDS": "0", "SHUTDOWN_TIMEOUT_SECONDS": "1", "REQUEST_TIMEOUT_SECONDS": "600"}
    with serving(folder, *FAULTS, **limits) as process:
        with process.connect() as slow, process.connect() as thread, process.connect() as stream:
            slow.sendall(get("/api/slow/600"))
            thread.sendall(get("/api/thread/wait"))
            stream.sendall(get("/api/stream/slowly"))
            until(lambda: len(process.events("waiting")) == 2)
            process.send(signal.SIGTERM)
            assert process.exit_code() == 0
        assert len(process.events("service_stopped")) == 1
        assert [entry["event"] for entry in process.lines if "exception" in entry] == []


def test_service_whose_stdout_is_closed_exits_with_0(folder: Path) -> None:
    """The log entries are lost, but the exit code is that of the shutdown."""
    reader, writer = os.pipe()
    environ = environment(folder, PYTHONPATH=SOURCES, PORT=str(free_port()), SHUTDOWN_DRAIN_SECONDS="0")
    with subprocess.Popen(
        [sys.executable, "-m", PACKAGE, "serve"], cwd=folder, env=environ, stdout=writer, stderr=subprocess.PIPE
    ) as process:
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)
        until(lambda: is_listening(int(environ["PORT"])), START_SECONDS)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, errors) == (0, b"")


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_shutdown_under_load_loses_no_request(folder: Path) -> None:
    """Clients behind a load balancer that respects readiness see no failure. The log goes to a file."""
    with serving(folder, *FAULTS, SHUTDOWN_DRAIN_SECONDS="60") as process:
        balancer = Balancer(process)
        clients = [threading.Thread(target=balancer.send_until_not_ready) for _ in range(8)]
        for client in clients:
            client.start()
        until(lambda: len(balancer.served) > 50)
        process.send(signal.SIGTERM)
        until(lambda: process.get("/health/ready").status_code == 503)
        seen = len(balancer.served)
        until(lambda: balancer.lost or len(balancer.served) > seen + 200)  # a balancer probes from time to time
        balancer.is_ready = False
        for client in clients:
            client.join()
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
        (started,) = process.events("draining_started")
        assert started.keys().isdisjoint({"request_id", "http.route"})
    assert balancer.lost == []


class Balancer:
    """Sends requests over kept connections while it considers the service ready."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.is_ready = True
        self.served: list[int] = []
        self.lost: list[str] = []

    def send_until_not_ready(self) -> None:
        with self._process.client() as client:
            while self.is_ready:
                try:
                    self.served.append(client.get("/api/thread/nap").raise_for_status().status_code)
                except httpx.HTTPError as error:
                    self.lost.append(repr(error))


def test_service_whose_threads_hang_answers_probes(folder: Path) -> None:
    """Probes work however many requests hang. These requests get 503, or are served when the threads continue."""
    responses: list[Any] = []
    with serving(folder, *FAULTS, SERVER_THREADS="2", REQUEST_TIMEOUT_SECONDS="600") as process:
        hanging = [
            threading.Thread(target=lambda: responses.append(process.get("/api/thread/wait")), daemon=True)
            for _ in range(12)
        ]
        for thread in hanging:
            thread.start()
        until(lambda: len(process.events("waiting")) >= 2)
        for _ in range(20):
            assert process.get("/health/live").status_code == 200
            assert process.get("/health/ready").status_code == 200
        (folder / "release").touch()
        for thread in hanging:
            thread.join(PATIENCE_SECONDS)
    assert {response.status_code for response in responses} <= {200, 503}
    assert len(responses) == len(hanging)
    assert all("retry-after" in response.headers for response in responses if response.status_code == 503)
