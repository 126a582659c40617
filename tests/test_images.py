"""The images of a rendered service are built and started; what counts is what the engine reports about them."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from containers.engine import Client, Container, base_images, build, require, require_engine, run, wait_for
from deployments.machine import prepare
from rendering import Renderer

pytestmark = [pytest.mark.containers, pytest.mark.xdist_group("containers")]

MEGABYTE = 1_000_000
# Size that the service and its libraries may add to the base image. Measured in 0.2: FastAPI 89 MB, Flask 83 MB.
LARGEST_ADDITION = 130 * MEGABYTE
CLIENTS = 8
# The load balancer notices the drain this much later. The drain is eight times as long, because a busy machine delays
# the test and its clients as well.
PROBE_SECONDS = 1
DRAIN_SECONDS = 8 * PROBE_SECONDS
Say = Callable[[str], None]
# The Compose files do not depend on the framework.
ONE_FRAMEWORK = pytest.mark.parametrize("service", ["fastapi"], indirect=True)
# Production names its hosts. The probe of the image calls 127.0.0.1, which must work whatever is named.
PRODUCTION = (
    *("--env", "ALLOWED_HOSTS=localhost", "--env", "SHUTDOWN_DRAIN_SECONDS=2"),
    *("--env", "RATE_LIMIT_DEFAULT=1000000/minute"),
    *("--env", "DATABASE_URL=sqlite:////data/notes.db"),
)
HARDENED = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true"),  # noqa: S108
    *("--publish", "127.0.0.1:0:8000", "--pids-limit", "256", "--memory", "512m", "--cpus", "1"),
)


@pytest.fixture(scope="module")
def say(request: pytest.FixtureRequest) -> Say:
    """Report a measurement although the test passes, past pytest's capture and through xdist."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(figure: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{figure}", file=sys.stderr)

    return say


@pytest.fixture(scope="module", params=["fastapi", "flask"])
def service(request: pytest.FixtureRequest, renderer: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service on SQLite whose base images are there."""
    require_engine()
    name = f"shipped-{request.param}"
    answers = {"service_name": name, "framework": request.param, "database": "sqlite"}
    path = renderer(tmp_path_factory.mktemp("images") / name, answers).path
    require("stand_ins.sh", *base_images(path))
    return path


@pytest.fixture(scope="module")
def image(service: Path, say: Say) -> Iterator[str]:
    name = f"{service.name}:test-{os.getpid()}"
    began = time.monotonic()
    build("docker", "build", "--tag", name, ".", cwd=service)
    say(f"{name}: built in {time.monotonic() - began:.1f} s")
    yield name
    run("docker", "rmi", "--force", name)


@contextmanager
def started(image: str, *options: str) -> Iterator[Container]:
    """The service in production, hardened as far as the engine can, healthy by its own word; its volume is migrated."""
    volume = run("docker", "volume", "create")
    settings = (*HARDENED, *PRODUCTION, "--volume", f"{volume}:/data", *options)
    container = None
    try:
        run("docker", "run", "--rm", *settings, image, "migrate")
        container = Container(run("docker", "run", "--detach", *settings, image))
        container.wait_until_healthy()
        yield container
    finally:
        if container:
            run("docker", "rm", "--force", container.name)
        run("docker", "volume", "rm", volume)


@pytest.fixture(scope="module")
def container(image: str, say: Say) -> Iterator[Container]:
    """One for the tests that leave it as it was."""
    began = time.monotonic()
    with started(image) as healthy:
        say(f"{image}: migrated, started and healthy after {time.monotonic() - began:.1f} s")
        yield healthy


def test_the_image_is_small(service: Path, image: str, say: Say) -> None:
    python = next(name for name in base_images(service) if name.startswith("python:"))
    size, base = (json.loads(run("docker", "image", "inspect", name))[0]["Size"] for name in (image, python))
    say(f"{image}: {size // MEGABYTE} MB, of which {base // MEGABYTE} MB are {python}")
    assert size - base < LARGEST_ADDITION


def test_the_image_holds_no_tool_and_no_file_but_the_service(image: str) -> None:
    def shell(script: str) -> list[str]:
        return run("docker", "run", "--rm", "--user", "0", "--entrypoint", "sh", image, "-c", script).split()

    assert shell("ls -A") == ["migrations"]
    assert shell("command -v uv ruff mypy pytest || true") == []
    assert shell("find / -xdev -perm -2 -not -type l -not -path '/proc/*' -not -perm -1000") == [], "writable by all"


def test_the_service_runs_as_nobody_who_can_do_harm(container: Container) -> None:
    reported = container.inspect()
    assert reported["Config"]["User"] == "1000"
    assert reported["HostConfig"]["ReadonlyRootfs"] is True
    assert reported["HostConfig"]["CapDrop"] == ["ALL"]
    assert container.sh("id -u; id -g").split() == ["1000", "1000"]
    status = dict(line.split(":\t", 1) for line in container.sh("cat /proc/1/status").splitlines())
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    writable = "for place in / /app /opt/venv /home /data /tmp; do if [ -w $place ]; then echo $place; fi; done"
    assert container.sh(writable).split() == ["/data", "/tmp"]  # noqa: S108


def test_process_1_is_the_service_itself(container: Container) -> None:
    command = container.sh("tr '\\0' ' ' < /proc/1/cmdline")
    assert command.split()[:2] == ["python", "-m"]


def test_a_note_is_kept_on_the_volume(container: Container) -> None:
    status, note = container.client().request("POST", "/api/v1/notes", {"title": "Ballast", "body": "Stow it low."})
    assert status == 201
    run("docker", "restart", container.name)
    container.wait_until_healthy()
    assert container.client().request("GET", f"/api/v1/notes/{note['id']}") == (200, note)


def test_the_port_is_the_environment_s(image: str) -> None:
    with started(image, "--env", "PORT=9001"):
        pass


def test_production_without_its_settings_does_not_start(image: str) -> None:
    refused = subprocess.run(["docker", "run", "--rm", *HARDENED, image], capture_output=True, text=True, check=False)
    assert refused.returncode == 78
    assert "ALLOWED_HOSTS" in refused.stdout + refused.stderr


def test_the_service_s_own_smoke_test_passes(service: Path, image: str) -> None:
    """`make smoke`, on which the workflow of a service relies, finds every answer that it expects."""
    said = run("make", "smoke", f"IMAGE={image}", cwd=service)
    assert len(re.findall("^.+: ok$", said, re.MULTILINE)) == expectations(service)


def expectations(service: Path) -> int:
    """How many things the smoke test of a service looks at."""
    script = (service / "tests/chassis/smoke.sh").read_text(encoding="utf-8")
    return len(re.findall(r"^expect ", script, re.MULTILINE))


def test_the_smoke_test_sees_an_image_that_does_not_drain(service: Path, image: str, tmp_path: Path) -> None:
    """An image that is killed instead of told to stop fails the last of its expectations."""
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nSTOPSIGNAL SIGKILL\n", encoding="utf-8")
    faulty = f"{image}-killed"
    run("docker", "build", "--tag", faulty, ".", cwd=tmp_path)
    command = ["sh", "tests/chassis/smoke.sh", faulty]
    done = subprocess.run(command, cwd=service, capture_output=True, text=True, check=False)
    run("docker", "rmi", "--force", faulty)
    assert done.returncode == 1
    assert done.stdout.count(": ok\n") == expectations(service) - 1
    assert "SIGTERM ends it with exit code 0: failed" in done.stdout


class Load(threading.Thread):
    """A client that keeps requesting until it is told to stop, and what became of its requests."""

    def __init__(self, client: Client, enough: threading.Event) -> None:
        super().__init__()
        self.client, self.enough = client, enough
        self.answered = 0
        self.lost: list[str] = []

    def run(self) -> None:
        while not self.enough.is_set():
            try:
                status, _ = self.client.request("GET", "/api/v1/notes")
            except OSError as error:
                self.lost.append(repr(error))
            else:
                self.answered += status == 200
                if status != 200:
                    self.lost.append(f"status {status}")


def test_sigterm_drains_and_loses_no_request(image: str, say: Say) -> None:
    with started(image, "--env", f"SHUTDOWN_DRAIN_SECONDS={DRAIN_SECONDS}") as container:
        drain_under_load(container, say)


def drain_under_load(container: Container, say: Say) -> None:
    told_to_leave = threading.Event()
    load = [Load(container.client(), told_to_leave) for _ in range(CLIENTS)]
    balancer = container.client()
    for client in load:
        client.start()
    try:
        wait_for(lambda: all(client.answered for client in load))
        began = time.monotonic()
        run("docker", "kill", "--signal", signal.SIGTERM.name, container.name)
        wait_for(lambda: balancer.request("GET", "/health/ready")[0] == 503)
        time.sleep(PROBE_SECONDS)
    finally:
        told_to_leave.set()
        for client in load:
            client.join()
    assert int(run("docker", "wait", container.name)) == 0, container.logs()
    say(f"{sum(client.answered for client in load)} answers, stopped after {time.monotonic() - began:.1f} s")
    assert [lost for client in load for lost in client.lost] == []


class Stack:
    """One of the rendered compose files as a separate project on free ports."""

    def __init__(self, service: Path, file: str, project: str) -> None:
        self.service = service
        self.file = file
        self.environment = {
            "COMPOSE_PROJECT_NAME": project,
            "PORT": "0",
            "HTTP_PORT": "127.0.0.1:0",
            "HTTPS_PORT": "127.0.0.1:0",
            "SHUTDOWN_DRAIN_SECONDS": "2",
        }

    def __call__(self, *arguments: str) -> str:
        return run("docker", "compose", "--file", self.file, *arguments, cwd=self.service, env=self.environment)

    def build(self) -> str:
        command = ("docker", "compose", "--file", self.file, "build")
        return build(*command, cwd=self.service, env=self.environment)

    def make(self, target: str) -> str:
        return run("make", target, cwd=self.service, env=self.environment)

    def volumes(self) -> str:
        mine = f"label=com.docker.compose.project={self.environment['COMPOSE_PROJECT_NAME']}"
        return run("docker", "volume", "ls", "--quiet", "--filter", mine)

    def containers(self) -> dict[str, Any]:
        reports = [Container(name).inspect() for name in self("ps", "--all", "--quiet").split()]
        return {report["Config"]["Labels"]["com.docker.compose.service"]: report for report in reports}

    def remove(self) -> None:
        self("--profile", "*", "down", "--volumes", "--timeout", "1", "--rmi", "local")


@pytest.fixture(scope="module")
def stack(service: Path) -> Iterator[Stack]:
    """The containers for development."""
    stack = Stack(service, "compose.dev.yaml", f"{service.name}-dev-{os.getpid()}")
    yield stack
    stack.remove()


@pytest.fixture(scope="module")
def production(service: Path) -> Iterator[Stack]:
    """The healthy production stack, started by hand."""
    prepare(service)
    stack = Stack(service, "compose.yaml", f"{service.name}-{os.getpid()}")
    run("sh", "deploy/compose/deploy.sh", "secrets", cwd=service)
    stack("config", "--quiet")
    stack.build()
    stack("up", "--wait")
    yield stack
    stack.remove()


@ONE_FRAMEWORK
def test_the_production_stack_is_healthy_and_bounded(production: Stack) -> None:
    containers = production.containers()
    app, migrate, backup, proxy = (containers[name] for name in ("app", "migrate", "backup", "proxy"))
    assert (migrate["State"]["Status"], migrate["State"]["ExitCode"]) == ("exited", 0)
    assert app["State"]["Health"]["Status"] == "healthy"
    assert backup["State"]["Health"]["Status"] == "healthy", "the first backup is made at once"
    for host in (app["HostConfig"], migrate["HostConfig"], backup["HostConfig"]):
        assert (host["NanoCpus"], host["Memory"], host["MemoryReservation"]) == (10**9, 512 << 20, 256 << 20)
    for host in (app["HostConfig"], migrate["HostConfig"], backup["HostConfig"], proxy["HostConfig"]):
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "5", "max-size": "10m"}}
    assert app["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert not app["HostConfig"]["PortBindings"]
    assert proxy["HostConfig"]["PortBindings"]["8000/tcp"][0]["HostIp"] == "127.0.0.1"
    client = Container(proxy["Id"]).client()
    assert client.request("GET", "/health")[1]["environment"] == "production"
    assert client.request("GET", "/api/v1/notes")[0] == 200, "the schema is there"


@ONE_FRAMEWORK
def test_the_data_comes_back_from_the_container_s_backup(production: Stack) -> None:
    containers = production.containers()
    backup, client = Container(containers["backup"]["Id"]), Container(containers["proxy"]["Id"]).client()
    status, note = client.request("POST", "/api/v1/notes", {"title": "Ballast", "body": "Stow it low."})
    assert status == 201
    production("run", "--rm", "--no-deps", "backup", "backup")
    newest = backup.sh("ls /backups").split()[-1]
    assert client.request("DELETE", f"/api/v1/notes/{note['id']}")[0] == 204
    production("run", "--rm", "--no-deps", "backup", "restore", newest, "--replace")
    assert client.request("GET", f"/api/v1/notes/{note['id']}") == (200, note)
    began = time.monotonic()
    production("stop", "--timeout", "60", "backup")
    assert time.monotonic() - began < 20, "it ends as soon as it is told"
    assert backup.inspect()["State"]["ExitCode"] == 0
    production("start", "backup")


@ONE_FRAMEWORK
def test_the_grace_period_is_longer_than_a_stop_may_take(service: Path, production: Stack) -> None:
    app = production.containers()["app"]
    package = next(service.glob("src/*")).name
    settings = Container(app["Id"]).sh(f"python -m {package} settings").splitlines()
    in_force = dict(line.split("=", 1) for line in settings)
    longest = float(in_force["SHUTDOWN_DRAIN_SECONDS"]) + float(in_force["SHUTDOWN_TIMEOUT_SECONDS"])
    assert app["Config"]["StopTimeout"] > longest


@ONE_FRAMEWORK
def test_the_development_stack_reloads_what_is_saved(stack: Stack) -> None:
    stack.build()
    stack.make("up")
    app = Container(stack.containers()["app"]["Id"])

    def started_at() -> str:
        status, health = app.client().request("GET", "/health")
        return str(health["started_at"]) if status == 200 else ""

    before = wait_for(started_at)
    assert app.client().request("GET", "/health")[1]["environment"] == "development"
    main = next(stack.service.glob("src/*/main.py"))
    main.write_text(main.read_text() + "\n# saved\n")
    wait_for(lambda: started_at() not in ("", before))


@ONE_FRAMEWORK
def test_make_logs_follows_the_containers_and_make_down_stops_them(stack: Stack) -> None:
    """Stored data survive `make down`."""
    stack.build()
    stack.make("up")
    stored = stack.volumes()
    with subprocess.Popen(
        ["make", "logs"], cwd=stack.service, env=os.environ | stack.environment, stdout=subprocess.PIPE, process_group=0
    ) as following:
        try:
            assert following.stdout
            assert following.stdout.readline()
            assert following.poll() is None
        finally:
            os.killpg(following.pid, signal.SIGTERM)
    stack.make("down")
    assert stack.containers() == {}
    assert stack.volumes() == stored != ""
