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

# How long a busy machine may take to start a service, to answer a request, to stop one. Who waits goes on as soon as it
# is done: only what never comes takes so long.
START_SECONDS = 300
ANSWER_SECONDS = 60
STOP_SECONDS = 180
# So that nobody is told 503 or 504 because other tests keep the machine busy. What comes of a service's own patience is
# for the tests that it is rendered with, and for tests/chaos/.
PATIENT = {
    "STARTUP_TIMEOUT_SECONDS": "180",
    "REQUEST_TIMEOUT_SECONDS": str(ANSWER_SECONDS),
    "DATABASE_CONNECT_TIMEOUT_SECONDS": "30",
    "DATABASE_STATEMENT_TIMEOUT_SECONDS": "30",
    "DATABASE_POOL_TIMEOUT_SECONDS": "30",
}
# Trusts nobody, as nothing here is encrypted: to read whom httpx trusts takes a hundred times as long as a request.
_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def environment(**extra: str) -> dict[str, str]:
    """The machine's variables without those of the test run's own Python, which are no business of the service."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTEST_", "COV_"))
    }
    # The uv of this repository, where there is one, saves each service from fetching its own.
    places = [str(Path(sys.executable).parents[2] / ".tools" / "bin"), kept.get("PATH", "")]
    return kept | {"PATH": os.pathsep.join(places)} | extra


def run(*command: str, cwd: Path, **extra: str) -> str:
    """Run a command in a service and return what it printed; a failure shows everything it said."""
    done = subprocess.run(command, cwd=cwd, env=environment(**extra), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        f"`{' '.join(command)}` in {cwd}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout


def install(service: Path) -> Path:
    """Install a rendered service with `make setup` and return its Python."""
    run("make", "setup", cwd=service)
    return service / ".venv" / "bin" / "python"


def copy_of(service: Path, destination: Path) -> Path:
    """Copy an installed service without its environment, which the copy shares through a link of its own sources."""
    shutil.copytree(service, destination, ignore=shutil.ignore_patterns(".venv", "data", ".*_cache", ".coverage*"))
    return destination


@dataclass
class Live:
    """A running service."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=ANSWER_SECONDS, verify=_NOBODY)

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
        """Have it stop in good order; return its exit code. One that does not stop is killed, and outlives no test."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        finally:
            self.process.kill()


@contextmanager
def serve(service: Path, package: str, scratch: Path, settings: Mapping[str, str]) -> Iterator[Live]:
    """Start an installed service, migrated where it has a database, and stop it when the block ends."""
    command = [str(service / ".venv" / "bin" / "python"), "-m", package]
    log = scratch / "service.log"
    with private_servers.reserved_port() as port, log.open("wb") as output:
        variables = PATIENT | {"PORT": str(port), "SHUTDOWN_DRAIN_SECONDS": "0"}
        variables |= {} if "DATABASE_URL" in settings else private_servers.settings(service, scratch)
        variables["RATE_LIMIT_DEFAULT"] = "1000000/minute"  # what tests send is no flood
        variables |= settings
        if (service / "migrations").is_dir():
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
