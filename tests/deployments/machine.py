"""A machine that runs a rendered service with Docker Compose, as docs/options/compose.md says."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from containers.engine import NETWORK, Container, base_images, require, run
from private_servers import reserved_port

DEPLOY = ("sh", "deploy/compose/deploy.sh")
# The server of the tests is of an unreleased Debian, so its tools come from there too.
TOOLS_OF_DEBIAN = (
    "/usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y",
    "echo \"deb $(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources | head -n 1) sid main\""
    " >/etc/apt/sources.list.d/sid.list && echo 'Acquire::Check-Valid-Until false;' >/etc/apt/apt.conf.d/valid",
)


class Machine:
    """A service in production on this machine.

    Args:
        service: The rendered service. Its name is that of the project, the images and the volumes.
        ports: The ports for HTTP, HTTPS, and programs on this machine.
    """

    def __init__(self, service: Path, ports: tuple[int, int, int], **settings: str) -> None:
        self.service = service
        self.http, self.https, self.local = ports
        self.project = str(self._compose_file("compose.yaml")["name"])
        lines = {
            "DOMAIN": "localhost",
            "HTTP_PORT": f"127.0.0.1:{self.http}",
            "HTTPS_PORT": f"127.0.0.1:{self.https}",
            "PORT": str(self.local),
            "RATE_LIMIT_DEFAULT": "1000000/minute",
            # A busy machine is not a fault.
            "HEALTH_CHECK_TIMEOUT_SECONDS": "10",
            "DATABASE_CONNECT_TIMEOUT_SECONDS": "20",
            "DATABASE_POOL_TIMEOUT_SECONDS": "20",
            "DATABASE_STATEMENT_TIMEOUT_SECONDS": "20",
            "REQUEST_TIMEOUT_SECONDS": "60",
            **settings,
        }
        (service / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()), encoding="utf-8")
        prepare(service)

    def _compose_file(self, name: str) -> Any:
        return yaml.safe_load((self.service / name).read_text(encoding="utf-8"))

    def compose(self, *arguments: str, **variables: str) -> str:
        return run("docker", "compose", "--file", "compose.yaml", *arguments, cwd=self.service, env=variables)

    def deploy(self, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run the script; return its result, successful or not. Only failures of the network are retried."""
        for _ in range(3):
            done = subprocess.run(
                [*DEPLOY, *command],
                cwd=self.service,
                env=os.environ | variables,
                capture_output=True,
                text=True,
                check=False,
            )
            if not NETWORK.search(done.stderr):
                break
        return done

    def must(self, *command: str, **variables: str) -> str:
        done = self.deploy(*command, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def container(self, name: str) -> Container:
        return Container(self.compose("--profile", "deploy", "ps", "--all", "--quiet", name))

    def serving(self) -> list[str]:
        """The versions of the containers that serve."""
        names = self.compose("--profile", "deploy", "ps", "--quiet", "--status", "running", "app", "app-next").split()
        labels = [Container(name).inspect()["Config"]["Labels"] for name in names]
        return [label["org.opencontainers.image.version"] for label in labels]

    def log(self) -> list[str]:
        """The lines about deployments, without their times."""
        lines = (self.service / "deploy/compose/deployments.log").read_text(encoding="utf-8").splitlines()
        return [re.sub(r"^\S+ |\d+ s", "", line) for line in lines]

    def remove(self) -> None:
        """Remove everything that was made here."""
        every = ("--profile", "*", "down", "--volumes", "--timeout", "1", "--remove-orphans")
        self.compose(*every)
        ids = run("docker", "image", "ls", "--quiet", self.project).split()
        if ids:
            run("docker", "rmi", "--force", *set(ids))


def images(service: Path) -> list[str]:
    """The images from which the service builds, and those that compose.yaml starts without a profile."""
    services = yaml.safe_load((service / "compose.yaml").read_text(encoding="utf-8"))["services"]
    started = [row["image"] for row in services.values() if not row.get("profiles") and "$" not in row["image"]]
    return [*base_images(service), *started]


def prepare(service: Path) -> None:
    """Let a service build and start on a machine without an image registry: no stand-in can have a digest."""
    for path in [*service.glob("compose*.yaml"), service / "Dockerfile"]:
        text = path.read_text(encoding="utf-8").replace(*TOOLS_OF_DEBIAN)
        path.write_text(re.sub(r"@sha256:[0-9a-f]{64}", "", text), encoding="utf-8")
    require("stand_ins.sh", *images(service))


@contextmanager
def machine(service: Path, **settings: str) -> Iterator[Machine]:
    """Run a rendered service on free ports of this machine during the block."""
    with ExitStack() as ports:
        found = [ports.enter_context(reserved_port()) for _ in range(3)]
        made = Machine(service, (found[0], found[1], found[2]), **settings)
    try:
        yield made
    finally:
        made.remove()
