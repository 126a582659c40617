"""The service itself, started with the settings that are judged, asked over HTTP, and stopped."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

import httpx

from .row import Finding, Row, Subject, verdict

_STOP_SECONDS = 5
# How long one answer is waited for, on a machine that is busy with building the image.
_ANSWER_SECONDS = 30


def _starts(subject: Subject) -> Finding:
    if subject.settings is None:
        return verdict(False, "cannot be started before the settings are valid")
    with TemporaryFile("w+") as log, _started(subject, log) as (process, client):
        began = time.monotonic()
        if not _is_ready(client, process, began + subject.settings.startup_timeout_seconds):
            log.seek(0)
            return verdict(False, f"not ready; its last line is {(log.read().splitlines() or ['none'])[-1][:300]}")
        seconds = time.monotonic() - began
        faults = faults_of(client)
        process.terminate()
        try:
            code = process.wait(subject.settings.shutdown_timeout_seconds + _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            faults.append("does not stop")
        else:
            faults += [f"stops with exit code {code}"] if code else []
    return verdict(not faults, "; ".join(faults) or f"ready after {seconds:.1f} s, answers as it should, stops with 0")


@contextmanager
def _started(subject: Subject, log: object) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """Start the service on a free port of this machine, and see to it that it is gone at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {"HOST": "127.0.0.1", "PORT": str(port), "SHUTDOWN_DRAIN_SECONDS": "0", "LOG_FORMAT": "json"}
    command = [sys.executable, "-m", subject.package, "serve"]
    environment = dict(subject.variables) | variables
    host = subject.settings.allowed_hosts[0].replace("*", "check", 1)
    with (
        subprocess.Popen(command, cwd=subject.folder, env=environment, stdout=log, stderr=log) as process,  # type: ignore[call-overload]
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Host": host}, timeout=_ANSWER_SECONDS, trust_env=False
        ) as client,
    ):
        try:
            yield process, client
        finally:
            process.kill()


def _is_ready(client: httpx.Client, process: subprocess.Popen[bytes], deadline: float) -> bool:
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/health/ready").status_code == 200:
                return True
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(0.05)
    return False


def faults_of(client: httpx.Client) -> list[str]:
    """Name what a service that has started does not do as production must."""
    try:
        return list(_faults(client))
    except httpx.TransportError as error:
        return [f"does not answer ({type(error).__name__})"]


def _faults(client: httpx.Client) -> Iterator[str]:
    """Ask what production must answer, and name what it does not."""
    for path in ("/health/live", "/health/started"):
        if client.get(path).status_code != 200:
            yield f"{path} does not answer 200"
    if client.get("/health").json()["environment"] != "production":
        yield "/health does not say production"
    unknown = client.get("/no-such-path")
    if unknown.headers.get("content-type") != "application/problem+json":
        yield "an unknown path gets no problem body"
    if unknown.headers.get("x-content-type-options") != "nosniff":
        yield "an answer has no security headers"
    if client.get("/no-such-path", headers={"Host": "elsewhere.invalid"}).status_code != 400:
        yield "a foreign host is answered"


ROWS = (
    Row(
        "service",
        10,
        "The service starts with these settings, answers its probes, refuses foreign hosts, and stops in good order",
        "start it as production does, with `python -m <package> serve`, and read its log",
        _starts,
    ),
)
