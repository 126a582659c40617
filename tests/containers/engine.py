"""The container engine as the tests use it: the docker command, one container, and waiting for what takes time."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import cache
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TypeVar

import pytest

HERE = Path(__file__).parent
CANNOT = 77
SECONDS = 1800  # longer than the longest build on a busy machine; a command that hangs ends the test
PATIENCE_SECONDS = 300  # for what becomes so by itself, on a busy machine
# What uv says, within a build, of an index that does not answer.
NETWORK = re.compile(r"Failed to (fetch|download)|error sending request|timed out|Connection (reset|refused)|dns error")

# Names of the tests' containers, networks, volumes and images end in the process that makes them.
OF_A_PROCESS = re.compile(r"^shipped-\D*(\d+)")
# How each kind is listed, by names, and removed. A container is also known by the name of its image.
KINDS = {
    "rm --volumes": ("ps", "--all", "--format", "{{.ID}} {{.Names}} {{.Image}}"),
    "network rm": ("network", "ls", "--format", "{{.Name}}"),
    "volume rm": ("volume", "ls", "--format", "{{.Name}}"),
    "rmi": ("image", "ls", "--format", "{{.Repository}}:{{.Tag}}"),
}

Found = TypeVar("Found")


def run(*command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return its output; a failure shows all of it."""
    environment = os.environ | dict(env or {})
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def build(*command: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command that builds an image. Only failures of the network are retried."""
    for pause in (10, 60):
        try:
            return run(*command, cwd=cwd, env=env)
        except AssertionError as failure:
            if not NETWORK.search(str(failure)):
                raise
            time.sleep(pause)
    return run(*command, cwd=cwd, env=env)


def require(script: str, *arguments: str) -> None:
    """Run a script of this folder; where it says that this machine cannot do it, the tests that need it are skipped."""
    done = subprocess.run([HERE / script, *arguments], capture_output=True, text=True, check=False)
    if done.returncode == CANNOT:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"


def require_engine() -> None:
    """Skip without an engine on a laptop; in CI install and start one."""
    if os.environ.get("CI"):
        require("engine.sh", "start")
    elif subprocess.run([HERE / "engine.sh", "answers"], capture_output=True, check=False).returncode:
        pytest.skip("no container engine answers (`docker info`, with compose and buildx)")
    remove_leftovers()


@cache
def remove_leftovers() -> None:
    """Remove what interrupted test runs have left, once. The engine would start such containers again."""

    def left(name: str) -> bool:
        found = OF_A_PROCESS.match(name)
        return found is not None and not Path(f"/proc/{found[1]}").exists()

    remove_all(left)


def remove_all(wanted: Callable[[str], bool]) -> None:
    """Remove every container, network, volume and image with a name that is wanted."""
    for command, listing in KINDS.items():
        for line in run("docker", *listing).splitlines():
            if any(map(wanted, line.split())):
                subprocess.run(
                    ["docker", *command.split(), "--force", line.split()[0]], capture_output=True, check=False
                )


def base_images(service: Path) -> list[str]:
    """Return the images from which the Dockerfile of a service builds."""
    froms = [line.split() for line in (service / "Dockerfile").read_text().splitlines() if line.startswith("FROM ")]
    stages = {words[3] for words in froms}
    return [words[1] for words in froms if words[1] not in stages and "$" not in words[1]]


def wait_for(what: Callable[[], Found], seconds: float = PATIENCE_SECONDS) -> Found:
    """Return the first true value; a connection that fails meanwhile is only a reason to ask again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := what():
                return found
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"still waiting after {seconds:.0f} s")


class Client:
    """One keep-alive connection, as a load balancer holds it."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("localhost", port, timeout=60)

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a request, reconnecting if the last response closed the connection; return status and parsed body."""
        payload = None if body is None else json.dumps(body)
        try:
            self._connection.request(method, path, payload, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            return answer.status, json.loads(answer.read() or "null")
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise ConnectionError(repr(error)) from error


class Container:
    """A started container, by name or id."""

    def __init__(self, name: str) -> None:
        self.name = name

    def inspect(self) -> Any:
        return json.loads(run("docker", "inspect", self.name))[0]

    def health(self) -> str:
        return str(self.inspect()["State"]["Health"]["Status"])

    def wait_until_healthy(self) -> None:
        def settled() -> bool:
            assert self.inspect()["State"]["Running"], self.logs()
            return self.health() == "healthy"

        wait_for(settled)

    def sh(self, script: str) -> str:
        """Return the output of a shell in the container, with the rights of the service."""
        return run("docker", "exec", self.name, "sh", "-c", script)

    def logs(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def client(self) -> Client:
        return Client(int(run("docker", "port", self.name, "8000/tcp").rpartition(":")[2]))
