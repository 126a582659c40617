"""Streams and background tasks: the deadline ends when the response begins, and a stop waits for both."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import FAULTS
from .process import Process, read_all, serving, until

CLOSE = b" HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: one\r\nConnection: close\r\n\r\n"


# The error of an unexpected end, which the server would log a second time, without the request's ids.
SERVERS_ERRORS = ("ASGI callable", "Exception in ASGI application")


def servers_errors(process: Process) -> list[str]:
    return [entry["event"] for entry in process.lines if entry["event"].startswith(SERVERS_ERRORS)]


@pytest.fixture
def process(folder: Path) -> Iterator[Process]:
    """Return a process with a short deadline and without a drain."""
    settings = {"REQUEST_TIMEOUT_SECONDS": "0.5", "SHUTDOWN_DRAIN_SECONDS": "0", "SHUTDOWN_TIMEOUT_SECONDS": "60"}
    with serving(folder, *FAULTS, **settings) as started:
        yield started


def test_stream_and_background_task_outlive_deadline_and_shutdown(process: Process, folder: Path) -> None:
    """Shutdown waits for both, the stream arrives as a whole, and the exit code is 0."""
    with process.connect() as stream, process.connect() as background:
        stream.sendall(b"GET /api/stream/slowly" + CLOSE)
        background.sendall(b"GET /api/background/wait" + CLOSE)
        until(lambda: len(process.events("waiting")) == 2)
        # A request that began later has passed its deadline, so both have passed theirs.
        assert process.get("/api/slow/60").status_code == 504
        process.send(signal.SIGTERM)
        until(lambda: process.events("draining_started"))
        (folder / "release").touch()
        assert read_all(background).startswith(b"HTTP/1.1 200")
        received = read_all(stream)
        assert b"first," in received
        assert b"last" in received
        assert received.endswith(b"0\r\n\r\n")
    assert process.exit_code() == 0
    assert len(process.events("waited")) == 2
    assert len(process.events("service_stopped")) == 1
    assert process.stderr == ""


def test_response_before_a_background_task_is_sent_at_once(running: Process) -> None:
    """The client gets the response while the task still waits for a file."""
    with running.connect() as connection:
        before = len(running.events("waiting"))
        connection.sendall(b"GET /api/background/wait" + CLOSE.replace(b"one", b"background-1"))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        until(lambda: len(running.events("waiting")) > before)


@pytest.mark.parametrize("name", ["half", "exit"])
def test_stream_that_fails_is_cut_off_and_logged_once(running: Process, name: str) -> None:
    """The last chunk is missing, so that no client mistakes a part for the whole (RFC 9112, 8).

    A stream that raises SystemExit does not end the service.
    """
    sent = running.exchange(f"GET /api/stream/{name}".encode() + CLOSE.replace(b"one", name.encode()))
    assert sent.endswith(b"half of the \r\n")
    assert b"secret" not in sent
    assert running.finished(name)["http.response.status_code"] == 200
    until(lambda: [entry for entry in running.events("request_failed") if entry["request_id"] == name])
    failed = [entry for entry in running.lines if "the other half is secret" in str(entry)]
    assert [entry["event"] for entry in failed if entry.get("request_id", name) == name] == ["request_failed"]
    assert servers_errors(running) == []


def test_stream_with_a_part_that_is_not_bytes_is_cut_off_and_logged(running: Process) -> None:
    """The client must not mistake the parts before it for the whole."""
    sent = running.exchange(b"GET /api/stream/nothing" + CLOSE.replace(b"one", b"nothing-1"))
    assert sent.endswith(b"half of the \r\n")
    assert running.finished("nothing-1")["http.response.status_code"] == 200
    until(lambda: [e for e in running.events("request_failed") if e["request_id"] == "nothing-1"])


def test_stream_whose_client_disconnects_ends(running: Process) -> None:
    """No further parts are produced, and the log has no error."""
    before = len(running.lines)
    with running.connect() as connection:
        connection.sendall(b"GET /api/stream/endless" + CLOSE.replace(b"one", b"gone-1"))
        assert connection.recv(1024).startswith(b"HTTP/1.1 200")
    assert running.finished("gone-1")["http.response.status_code"] == 200
    assert [entry for entry in running.lines[before:] if entry["level"] in ("warning", "error")] == []
