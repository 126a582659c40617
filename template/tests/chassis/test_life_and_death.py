"""Life and death of the process: how it starts, and how it stops without losing a request."""

from __future__ import annotations

import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..package import PACKAGE
from .conftest import FAULTS
from .process import PATIENCE_SECONDS, Process, read_all, serving, until

EVERY_LINE = {"timestamp", "level", "event", "logger", "service.name", "service.version", "deployment.environment.name"}
STEPS = [
    *("settings_loaded", "logging_configured", "features_installed", "service_started"),
    *("draining_started", "service_stopped"),
]
# The loggers of the servers, which say that they start.
SERVERS = {"uvicorn.error", "_granian"}


# -- start -------------------------------------------------------------------------------------------------------------


def test_the_service_starts_serves_and_stops(folder: Path) -> None:
    """`python -m <package> serve`: every line on stdout is JSON of one form, each step is one line, exit code 0."""
    with serving(folder, PACKAGE, "serve", SHUTDOWN_DRAIN_SECONDS="0") as process:
        assert process.get("/health/started").status_code == 200
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
        assert process.stderr == ""
        assert all(line.keys() >= EVERY_LINE for line in process.lines)
        events = [line["event"] for line in process.lines]
        assert [event for event in events if event in STEPS] == STEPS
        ours = [line["event"] for line in process.lines if line["logger"].startswith(PACKAGE)]
        assert all(re.fullmatch(r"[a-z0-9_]+", event) for event in ours)
        servers = [line for line in process.lines if line["logger"] in SERVERS]
        assert [line["event"] for line in servers if line["level"] == "warning"] == []


AWAY = {"FAULTY_DEPENDENCY": "release", "SHUTDOWN_DRAIN_SECONDS": "60"}


def test_a_dependency_that_never_comes_ends_the_start(folder: Path) -> None:
    """After STARTUP_TIMEOUT_SECONDS the process gives up with exit code 69, and says why in one line."""
    process = Process(folder, *FAULTS, **AWAY, STARTUP_TIMEOUT_SECONDS="0.5")
    assert process.exit_code() == 69
    assert process.events("service_started") == []
    told = [line for line in process.lines if "Traceback" in str(line)]
    assert [(line["event"], line["level"]) for line in told] == [("startup_failed", "error")]
    assert process.stderr == ""


def test_probes_and_clients_are_answered_while_it_starts(folder: Path) -> None:
    """Alive, neither started nor ready, 503 with Retry-After to everybody else; then the dependency comes."""
    with serving(folder, *FAULTS, **AWAY, STARTUP_TIMEOUT_SECONDS="60", started=False) as process:
        assert process.get("/health/live").status_code == 200
        assert process.get("/health/started").status_code == 503
        assert process.get("/health/ready").status_code == 503
        answer = process.get("/api/things/7")
        assert (answer.status_code, answer.json()["error_code"]) == (503, "UNAVAILABLE")
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["content-type"] == "application/problem+json"
        assert process.events("service_started") == []

        (folder / "release").touch()
        process.wait_until_started()
        assert process.get("/health/ready").status_code == 200
        assert process.get("/api/things/7").status_code == 200
        assert [line["dependency"] for line in process.events("dependency_opened")][-1] == "faulty"
        assert len(process.events("service_started")) == 1


def test_a_service_that_is_starting_stops_at_once(folder: Path) -> None:
    """It has served nobody, so that it drains nothing, and to be stopped is no failure: exit code 0."""
    with serving(folder, *FAULTS, **AWAY, STARTUP_TIMEOUT_SECONDS="60", started=False) as process:
        process.send(signal.SIGTERM)
        assert process.popen.wait(30) == 0
        assert process.events("startup_failed") == []
        assert process.stderr == ""


# -- what stdout holds -------------------------------------------------------------------------------------------------


def test_whoever_writes_writes_the_same_form(running: Process) -> None:
    """Our lines, a library's, Python's warnings and the server's own come out of one pipe; stderr stays empty."""
    assert running.get("/api/here/print").status_code == 200
    until(lambda: any("said by Python" in line["event"] for line in running.lines))
    assert {"said_by_us", "said by a library", "service_started"} <= {line["event"] for line in running.lines}
    assert {line["logger"] for line in running.lines} & SERVERS
    assert all(line.keys() >= EVERY_LINE for line in running.lines)
    assert running.stderr == ""


def test_a_crash_is_logged_once_and_so_is_its_request(running: Process) -> None:
    """No server writes the traceback a second time."""
    answer = running.get("/api/here/crash", {"X-Request-ID": "crash"})
    assert answer.status_code == 500
    until(lambda: lines_of(running, "request_finished", "crash"))
    (failed,) = [line for line in running.lines if "hunter2" in str(line)]
    assert (failed["event"], failed["request_id"]) == ("request_failed", "crash")
    assert len(lines_of(running, "request_finished", "crash")) == 1


def test_an_answer_that_breaks_off_is_logged_once(running: Process) -> None:
    """Half of it is out when the handler crashes: the traceback is in the log, and not in what was sent."""
    sent = running.exchange(
        b"GET /api/half HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: half-1\r\nConnection: close\r\n\r\n"
    )
    assert b"half of the " in sent
    assert b"secret" not in sent
    until(lambda: lines_of(running, "request_finished", "half-1"))
    told = [line for line in running.lines if "the other half is secret" in str(line)]
    assert [line["event"] for line in told if line.get("request_id") in ("half-1", None)] == ["request_failed"]


def lines_of(process: Process, event: str, request_id: str) -> list[dict[str, Any]]:
    return [line for line in process.events(event) if line.get("request_id") == request_id]


# -- stop --------------------------------------------------------------------------------------------------------------


def test_the_end_is_nobodys_request(folder: Path) -> None:
    """What is logged of the stop has no fields of the request that the signal has interrupted."""
    with serving(folder, *FAULTS, SHUTDOWN_DRAIN_SECONDS="0") as process:
        (folder / "pid").write_text(str(process.popen.pid), encoding="ascii")
        assert process.get("/api/here/stop").status_code == 200
        assert process.exit_code() == 0
        (told,) = process.events("draining_started")
        assert told.keys().isdisjoint({"request_id", "http.route"})


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_stopping_drains_first(folder: Path, signum: signal.Signals) -> None:
    """Not ready, still serving with `Connection: close`; then no new connection, what is in flight finishes; exit 0."""
    # The drain is so long that what comes only with its end, or half-way there, does not come in time.
    patient = {"SHUTDOWN_DRAIN_SECONDS": "600", "SHUTDOWN_TIMEOUT_SECONDS": "60", "REQUEST_TIMEOUT_SECONDS": "600"}
    with serving(folder, *FAULTS, **patient) as process, process.client() as kept:
        assert "connection" not in kept.get("/api/things/7").headers
        in_flight = process.connect()
        in_flight.sendall(b"GET /api/thread/wait HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        until(lambda: process.events("waiting"))

        process.send(signum)
        until(lambda: process.events("draining_started"))
        assert process.get("/health/ready").status_code == 503
        time.sleep(0.5)  # a server that does not drain takes no more connections by now
        assert process.get("/health/live").status_code == 200
        for answer in (kept.get("/api/things/7"), process.get("/api/things/8")):
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close"

        slow = process.connect()
        slow.sendall(b"GET /api/slow/2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert process.get("/health/live").status_code == 200  # asked later: the slow one is in flight by now
        process.send(signal.SIGTERM)  # nobody has to wait for the end of the drain
        until(lambda: refuses_connections(process))
        assert process.popen.poll() is None
        (folder / "release").touch()
        for connection in (in_flight, slow):
            assert read_all(connection).startswith(b"HTTP/1.1 200")
            connection.close()
        assert process.exit_code() == 0
        assert process.stderr == ""


def test_what_was_opened_closes_after_the_last_request(folder: Path) -> None:
    """A request in flight has its pool and its clients to its end, in the drain and after it."""
    patient = {"SHUTDOWN_DRAIN_SECONDS": "600", "SHUTDOWN_TIMEOUT_SECONDS": "60", "REQUEST_TIMEOUT_SECONDS": "600"}
    with serving(folder, *FAULTS, FAULTY_DEPENDENCY=".", **patient) as process:
        with process.connect() as in_flight:
            in_flight.sendall(b"GET /api/thread/wait HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            until(lambda: process.events("waiting"))
            process.send(signal.SIGTERM)
            until(lambda: process.get("/health/ready").status_code == 503)
            process.send(signal.SIGTERM)  # nobody has to wait for the end of the drain
            until(lambda: refuses_connections(process))
            (folder / "release").touch()
            assert read_all(in_flight).startswith(b"HTTP/1.1 200")
        assert process.exit_code() == 0
        ends = ("waited", "faulty_closed", "service_stopped")
        assert [line["event"] for line in process.lines if line["event"] in ends] == list(ends)


def refuses_connections(process: Process) -> bool:
    try:
        process.connect().close()
    except OSError:
        return True
    return False


def test_a_request_that_does_not_end_is_given_up(folder: Path) -> None:
    """After SHUTDOWN_TIMEOUT_SECONDS the service closes what it has opened, and ends with exit code 0 all the same."""
    limits = {"SHUTDOWN_DRAIN_SECONDS": "0", "SHUTDOWN_TIMEOUT_SECONDS": "1", "REQUEST_TIMEOUT_SECONDS": "600"}
    with serving(folder, *FAULTS, **limits) as process:
        with process.connect() as in_flight:
            in_flight.sendall(b"GET /api/slow/600 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert process.get("/health/live").status_code == 200  # asked later: the other one is in flight by now
            process.send(signal.SIGTERM)
            assert process.exit_code() == 0
        assert len(process.events("service_stopped")) == 1


def test_under_load_no_request_is_lost(folder: Path) -> None:
    """Clients behind a balancer that heeds readiness ask all the time, and never see a failure."""
    with serving(folder, *FAULTS, SHUTDOWN_DRAIN_SECONDS="60") as process:
        balancer = Balancer(process)
        clients = [threading.Thread(target=balancer.ask_until_not_ready) for _ in range(8)]
        for client in clients:
            client.start()
        until(lambda: len(balancer.served) > 50)
        process.send(signal.SIGTERM)
        until(lambda: process.get("/health/ready").status_code == 503)
        seen = len(balancer.served)
        until(lambda: balancer.lost or len(balancer.served) > seen + 400)  # a balancer does not look all the time
        balancer.ready = False  # the balancer has noticed; its requests in flight must still be answered
        for client in clients:
            client.join()
        process.send(signal.SIGTERM)  # nobody has to wait for the end of the drain
        assert process.exit_code() == 0
    assert balancer.lost == []


class Balancer:
    """Sends requests over kept connections for as long as it takes the service for ready."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.ready = True
        self.served: list[int] = []
        self.lost: list[str] = []

    def ask_until_not_ready(self) -> None:
        with self._process.client() as client:
            while self.ready:
                try:
                    self.served.append(client.get("/api/thread/nap").raise_for_status().status_code)
                except httpx.HTTPError as error:
                    self.lost.append(repr(error))


def test_a_service_that_is_stuck_still_answers_its_probes(folder: Path) -> None:
    """However many requests wait for something that hangs: they hear 503 in time, or go on when it does."""
    answers: list[httpx.Response] = []
    with serving(folder, *FAULTS, SERVER_THREADS="2", REQUEST_TIMEOUT_SECONDS="600") as process:
        stuck = [
            threading.Thread(target=lambda: answers.append(process.get("/api/thread/wait")), daemon=True)
            for _ in range(12)
        ]
        for thread in stuck:
            thread.start()
        until(lambda: len(process.events("waiting")) >= 2)
        for _ in range(20):
            began = time.monotonic()
            assert process.get("/health/live").status_code == 200
            assert process.get("/health/ready").status_code == 200
            assert time.monotonic() - began < 20
        (folder / "release").touch()
        for thread in stuck:
            thread.join(PATIENCE_SECONDS)
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert len(answers) == len(stuck)
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
