"""A few promises of the chassis, tested on your service as a process. `make test` runs this file; it takes seconds."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import httpx
import pytest

from .. import servers
from ..package import CHASSIS, ROOT, environment, module, program
from .process import Process, serving, until

MISSING = "/no-such-path"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Your service with a migrated database. The tests share the process, and the last one stops it."""
    folder = tmp_path_factory.mktemp("smoke")
    if (ROOT / "migrations").is_dir():
        (folder / "migrations").symlink_to(ROOT / "migrations")
        with pytest.MonkeyPatch.context() as here:
            here.chdir(folder)
            for name, value in environment(folder).items():
                here.setenv(name, value)
            assert module("chassis.cli").main(program(), ["migrate"]) == 0
    with serving(folder, SHUTDOWN_DRAIN_SECONDS="1") as process:
        yield process
    servers.remove(CHASSIS, folder)


def test_client_of_the_tests_reaches_the_service(client: httpx.Client) -> None:
    """Your own tests use this fixture. The service runs in the process of the tests."""
    assert client.get("/health").status_code == 200


def test_health_of_a_started_service_is_200(service: Process) -> None:
    """The process is alive, it is started, and its dependencies work."""
    for path in ("/health/live", "/health/started", "/health/ready", "/health"):
        assert service.get(path).status_code == 200, path


def test_request_id_is_in_header_body_and_log(service: Process) -> None:
    """With the id that the client has, you can find the error in the log."""
    response = service.get(MISSING, {"X-Request-ID": "smoke-1"})
    assert response.headers["x-request-id"] == "smoke-1"
    assert response.json()["request_id"] == "smoke-1"
    until(lambda: any(entry.get("request_id") == "smoke-1" for entry in service.events("request_finished")))


def test_error_of_an_unknown_path_is_a_problem_body(service: Process) -> None:
    """Clients have to handle only one format of errors (RFC 9457)."""
    response = service.get(MISSING)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["error_code"] == "NOT_FOUND"


def test_response_has_security_headers(service: Process) -> None:
    """Error responses have them too."""
    headers = service.get(MISSING).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "server" not in headers


def test_request_for_an_unknown_host_is_rejected(service: Process) -> None:
    """ALLOWED_HOSTS lists the hosts of the service."""
    assert service.get(MISSING, {"Host": "other.invalid"}).status_code == 400


def test_request_with_a_large_body_is_rejected(service: Process) -> None:
    """The service responds before the body has arrived."""
    limit = module("settings").Settings.model_fields["max_request_body_bytes"].default
    request = f"POST {MISSING} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {limit + 1}\r\nConnection: close\r\n\r\n"
    assert service.exchange(request.encode()).startswith(b"HTTP/1.1 413 ")


def test_shutdown_after_sigterm_drains_first(service: Process) -> None:
    """Readiness returns 503 while requests are still served. The exit code is 0."""
    with service.client() as client:
        service.send(signal.SIGTERM)
        until(lambda: client.get("/health/ready").status_code == 503)
        assert client.get(MISSING).status_code == 404
    assert service.exit_code() == 0
