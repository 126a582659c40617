"""CPU time from the start of a rendered service's process to its first health response."""

import http.client
import statistics
import subprocess
import sys
import time
from pathlib import Path

from cpu import cpu_ns, family
from servers import PATIENCE_SECONDS, environment, reserved_port


def measure(service: Path, rounds: int) -> float:
    """Return the median in seconds; the first start, which compiles bytecode, does not count."""
    return statistics.median([_start(service) for _ in range(rounds + 1)][1:])


def _start(service: Path) -> float:
    with reserved_port() as port, (service / "start.log").open("wb") as log:
        command = [sys.executable, "-m", "my_service", "serve"]
        process = subprocess.Popen(command, cwd=service, env=environment(service, port), stdout=log, stderr=log)
        try:
            _wait(port, process)
            return cpu_ns(family(process.pid)) / 1e9
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", "/health/live")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.01)
        finally:
            connection.close()
    raise RuntimeError("the service did not start; see start.log in its folder")
