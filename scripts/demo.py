"""Renders the default service, installs and starts it, creates and reads a note, shows its health, and stops it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[1]
SERVICE = ROOT / "demo" / "my-service"
# Limits that a busy machine still meets: for a start or stop of the service, and for a response.
PATIENCE_SECONDS = 180
RESPONSE_SECONDS = 60


def main() -> int:
    """Run each step once, with the commands that a newcomer would type."""
    shutil.rmtree(SERVICE, ignore_errors=True)
    step("copier copy --defaults")
    run(sys.executable, "-m", "copier", "copy", "--quiet", "--defaults", "--vcs-ref", "HEAD", str(ROOT), str(SERVICE))
    step("make setup")
    run("make", "setup", cwd=SERVICE)
    step("make migrate")
    run("make", "migrate", cwd=SERVICE)
    with reserved_port() as port:
        step(f"python -m my_service serve (port {port})")
        code = serve(port)
    step(f"stopped with exit code {code}; the service is in {SERVICE.relative_to(ROOT)}, its log in demo.log there")
    return code


def serve(port: int) -> int:
    """Start the service, show it, stop it, and return its exit code."""
    environment = os.environ | {"PORT": str(port), "METRICS_PORT": "0", "SHUTDOWN_DRAIN_SECONDS": "0"}
    python = SERVICE / ".venv" / "bin" / "python"
    with (SERVICE / "demo.log").open("wb") as log:
        server = subprocess.Popen([python, "-m", "my_service", "serve"], cwd=SERVICE, env=environment, stdout=log)
    try:
        show(f"http://127.0.0.1:{port}", server)
        server.send_signal(signal.SIGTERM)
        return server.wait(PATIENCE_SECONDS)
    finally:
        server.kill()


def show(base: str, server: "subprocess.Popen[bytes]") -> None:
    """Wait for the service, then create a note, read it back, and print its health."""
    wait_until_ready(base, server)
    made = call("POST", f"{base}/api/v1/notes", {"title": "Hello"})
    print("created:", json.dumps(made))
    read = call("GET", f"{base}/api/v1/notes/{made['id']}")
    print("read:   ", json.dumps(read))
    if read != made:
        raise SystemExit("the note that was read back differs from the one that was created")
    health = call("GET", f"{base}/health")
    checks = {name: check["status"] for name, check in health["checks"].items()}
    print("health: ", json.dumps({"status": health["status"], "version": health["version"], "checks": checks}))


def wait_until_ready(base: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            call("GET", f"{base}/health/ready")
        except OSError:  # refused, an error response, or too late
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"the service was not ready within {PATIENCE_SECONDS} s; see {SERVICE / 'demo.log'}")


def call(method: str, url: str, body: object = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"content-type": "application/json"}, method=method)  # noqa: S310 - our own, on loopback
    with urlopen(request, timeout=RESPONSE_SECONDS) as response:  # noqa: S310
        result: dict[str, Any] = json.load(response)
    return result


@contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a free port. It stays bound, so only a server that sets SO_REUSEADDR can listen on it meanwhile."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def run(*command: str, cwd: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=cwd, check=False)
    if done.returncode:
        raise SystemExit(f"`{' '.join(command)}` failed with exit code {done.returncode}")


def step(what: str) -> None:
    print(f"\n== {what}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
