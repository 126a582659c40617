"""A rendered service as a process: installed with its own command, started on a free port, stopped by a signal."""

import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import private_servers

# Limits for a busy machine: to start a service, to answer a request, to stop it. Waiting ends with the event, so
# only a failure takes this long.
START_SECONDS = 300
ANSWER_SECONDS = 60
STOP_SECONDS = 180
# To run a command. The longest one, the whole suite of a service, takes a sixth of this on a busy machine.
COMMAND_SECONDS = 3600
# Prevents 503 and 504 on a machine that is busy with other tests. The timeouts of the service are tested by its own
# tests and by tests/chaos/.
PATIENT = {
    "STARTUP_TIMEOUT_SECONDS": "180",
    "REQUEST_TIMEOUT_SECONDS": str(ANSWER_SECONDS),
    "DATABASE_CONNECT_TIMEOUT_SECONDS": "30",
    "DATABASE_STATEMENT_TIMEOUT_SECONDS": "30",
    "DATABASE_POOL_TIMEOUT_SECONDS": "30",
}
# Trusts no certificate, because nothing is encrypted: loading the certificates of httpx takes 100 times a request.
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def environment(**extra: str) -> dict[str, str]:
    """Return the variables of the machine without those of the Python that runs the tests."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTEST_", "COV_"))
    }
    # The uv of this repository, if it exists, spares each service a download.
    places = [str(Path(sys.executable).parents[2] / ".tools" / "bin"), kept.get("PATH", "")]
    return kept | {"PATH": os.pathsep.join(places)} | extra


def start_group(
    *command: str, cwd: Path, variables: Mapping[str, str], stderr: int = subprocess.STDOUT
) -> "subprocess.Popen[str]":
    """Start a command in a separate process group, so that a signal reaches all that it starts."""
    return subprocess.Popen(
        command, cwd=cwd, env=variables, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True
    )


def run(*command: str, cwd: Path, **extra: str) -> str:
    """Run a command in a service and return its output; a failure shows all of it.

    A command that does not end is killed with all that it started. TimeoutExpired names it.
    """
    with start_group(*command, cwd=cwd, variables=environment(**extra), stderr=subprocess.PIPE) as process:
        try:
            output, errors = process.communicate(timeout=COMMAND_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, f"`{' '.join(command)}` in {cwd}: exit code {process.returncode}\n{output}{errors}"
    return output


def install(service: Path) -> Path:
    """Install a rendered service with `make setup` and return its Python."""
    run("make", "setup", cwd=service)
    return service / ".venv" / "bin" / "python"


def copy_of(service: Path, destination: Path) -> Path:
    """Copy an installed service without its environment."""
    shutil.copytree(service, destination, ignore=shutil.ignore_patterns(".venv", "data", ".*_cache", ".coverage*"))
    return destination


@dataclass
class Live:
    """A running service."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=ANSWER_SECONDS, verify=_NO_CERTIFICATES)

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with self.client() as client:
                    if client.get("/health/ready").status_code == 200:
                        return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready within {seconds} s:\n{self.log.read_text()}")

    def stop(self) -> int:
        """Stop the service with SIGTERM and return its exit code. A service that does not stop is killed."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        finally:
            self.process.kill()


@contextmanager
def serve(
    service: Path, package: str, scratch: Path, settings: Mapping[str, str], *, migrated: bool = False
) -> Iterator[Live]:
    """Run an installed service during the block. Its database is migrated first, unless it is already `migrated`."""
    command = [str(service / ".venv" / "bin" / "python"), "-m", package]
    log = scratch / "service.log"
    with private_servers.reserved_port() as port, log.open("wb") as output:
        variables = PATIENT | {"PORT": str(port), "METRICS_PORT": "0", "SHUTDOWN_DRAIN_SECONDS": "0"}
        variables |= {} if "DATABASE_URL" in settings else private_servers.settings(service, scratch)
        variables["RATE_LIMIT_DEFAULT"] = "1000000/minute"  # tests send many requests
        variables |= settings
        if not migrated and (service / "migrations").is_dir():
            run(*command, "migrate", cwd=service, **variables)
        process = subprocess.Popen(
            [*command, "serve"], cwd=service, env=environment(**variables), stdout=output, stderr=subprocess.STDOUT
        )
        live = Live(f"http://127.0.0.1:{port}", process, log)
        try:
            live.wait_until_ready()
            yield live
        finally:
            code = live.stop()
    assert code == 0, f"exit code {code}\n{log.read_text()}"
