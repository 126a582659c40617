"""A service in production on one machine with Docker Compose: deployments under load, failures, and what is public."""

import os
import re
import signal
import ssl
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest
from containers.engine import require_engine, run, wait_for
from deployments.load import load
from deployments.machine import Machine, machine
from rendering import Renderer

pytestmark = [pytest.mark.containers, pytest.mark.xdist_group("compose")]

NAME = f"shipped-{os.getpid()}"
ANSWERS = {
    "service_name": NAME,
    "framework": "fastapi",
    "database": "postgresql",
    "cache": "redis",
    "monitoring": ["prometheus"],
    "deployment": ["compose"],
}
MIGRATION = '''"""A migration that fails."""

revision = "ffffffffffff"
down_revision = {last!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    raise RuntimeError("the hold is full")


def downgrade() -> None:
    pass
'''
INSTALL = "    install(app, settings, FEATURES)\n"
NEVER_READY = """    from .chassis.health.checks import Check, CheckFailedError

    def fail() -> None:
        raise CheckFailedError("the anchor is down")

    install(app, settings, FEATURES).health.add(Check("anchor", fail, critical=True))
"""


@pytest.fixture(scope="module")
def production(renderer: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The first release serves."""
    require_engine()
    service = renderer(tmp_path_factory.mktemp("compose") / NAME, ANSWERS).path
    with machine(service) as made:
        made.must("deploy", "1.0.0")
        yield made


@pytest.fixture
def package(production: Machine) -> Path:
    return next(production.service.glob("src/*/chassis")).parent


def https(production: Machine, path: str) -> tuple[int, dict[str, str]]:
    """Request a path as the public does, without checking the certificate, which is not from an authority."""
    connection = HTTPSConnection("localhost", production.https, context=ssl._create_unverified_context(), timeout=30)  # noqa: S323
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, {name.lower(): value for name, value in response.getheaders()}


def test_deployment_and_rollback_under_load_lose_no_request(production: Machine) -> None:
    """The new release serves, the old one can come back, and each deployment has a line in the log."""
    (before,) = production.serving()
    with load(production.service, production.local) as outcome:
        production.must("deploy", "2.0.0")
        assert production.serving() == ["2.0.0"]
        production.must("rollback")
    assert (outcome.lost, production.serving()) == ([], [before])
    assert outcome.requests > 100
    assert production.log()[-2:] == [f"deploy 2.0.0 ok, , before: {before}", f"rollback {before} ok, , before: 2.0.0"]


def test_migration_that_fails_leaves_the_old_release_serving(production: Machine) -> None:
    serving = production.serving()
    versions = production.service / "migrations/versions"
    last = re.findall(r'^revision = "(\w+)"$', (versions / "0001_notes.py").read_text(encoding="utf-8"), re.MULTILINE)[
        0
    ]
    migration = versions / "fails.py"
    migration.write_text(MIGRATION.format(last=last), encoding="utf-8")
    try:
        with load(production.service, production.local) as outcome:
            done = production.deploy("deploy", "3.0.0")
    finally:
        migration.unlink()
    assert (done.returncode, outcome.lost, production.serving()) == (1, [], serving)
    assert done.stderr.splitlines()[-1] == f"The migration of 3.0.0 failed; {serving[0]} continues to serve."


def test_release_that_does_not_become_ready_is_removed(production: Machine, package: Path) -> None:
    serving = production.serving()
    main = package / "main.py"
    text = main.read_text(encoding="utf-8")
    assert INSTALL in text
    main.write_text(text.replace(INSTALL, NEVER_READY), encoding="utf-8")
    try:
        with load(production.service, production.local) as outcome:
            done = production.deploy("deploy", "4.0.0", READY_SECONDS="15")
    finally:
        main.write_text(text, encoding="utf-8")
    assert (done.returncode, outcome.lost, production.serving()) == (1, [], serving)
    assert done.stderr.splitlines()[-1] == f"4.0.0 did not become ready; {serving[0]} continues to serve."


def test_container_that_hangs_is_started_again(production: Machine) -> None:
    """The process is frozen, as in an endless loop. Nothing but the health check of the container notices."""
    app = production.container("app")
    before = app.inspect()
    children = Path(f"/proc/{before['State']['Pid']}/task/{before['State']['Pid']}/children")
    os.kill(int(children.read_text().split()[0]), signal.SIGSTOP)
    wait_for(lambda: app.inspect()["RestartCount"] > before["RestartCount"])
    app.wait_until_healthy()


def test_public_gets_tls_and_no_health(production: Machine) -> None:
    wait_for(lambda: https(production, "/api/v1/notes")[0] == 200)
    status, headers = https(production, "/api/v1/notes")
    assert (status, "server" in headers, "via" in headers) == (200, False, False)
    assert headers["strict-transport-security"].startswith("max-age=")
    for path in ("/health", "/health/ready", "/HEALTH/live", "//health", "/%68ealth/ready", "/metrics"):
        assert https(production, path)[0] == 404, path
    connection = HTTPConnection("localhost", production.http, timeout=30)
    connection.request("GET", "/api/v1/notes")
    response = connection.getresponse()
    assert (response.status, str(response.getheader("Location"))[:18]) == (308, "https://localhost/")


def test_database_user_owns_its_databases_and_nothing_else(production: Machine) -> None:
    def psql(query: str) -> str:
        command = ("psql", "--username=postgres", "--no-align", "--tuples-only", "--command", query)
        return production.compose("exec", "-T", "postgresql", *command)

    assert psql("SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = 'service'") == "f|f|f"
    owned = psql(
        "SELECT datname FROM pg_database JOIN pg_roles r ON datdba = r.oid WHERE rolname = 'service' ORDER BY 1"
    )
    assert owned.split() == ["service", "service_verify"]


def test_networks_separate_the_proxy_from_the_servers(production: Machine) -> None:
    """The proxy cannot resolve the servers. They cannot reach other machines, and publish no port."""
    for server in ("postgresql", "redis"):
        done = production.compose("exec", "-T", "proxy", "sh", "-c", f"getent hosts {server} || echo unknown")
        assert done == "unknown"
        networks = production.container(server).inspect()["NetworkSettings"]["Networks"]
        assert list(networks) == [f"{production.project}_data"]
        assert run("docker", "network", "inspect", "--format", "{{.Internal}}", *networks) == "true"
        assert not any(production.container(server).inspect()["NetworkSettings"]["Ports"].values())


def test_no_secret_is_in_the_environment_of_a_container(production: Machine) -> None:
    secrets = [path.read_text() for path in (production.service / "secrets").iterdir() if path.stat().st_size]
    assert secrets
    for name in ("app", "backup", "postgresql"):
        assert not [secret for secret in secrets if secret in str(production.container(name).inspect())], name


def test_deploy_check_runs_in_the_containers(production: Machine) -> None:
    """All but what this stack lacks passes: a public name, a key for backups."""
    command = ("make", "deploy-check", "COMPOSE=yes")
    done = subprocess.run(command, cwd=production.service, capture_output=True, text=True, check=False)
    failed = re.findall(r"^FAILED +([\w-]+)", done.stdout, re.MULTILINE)
    assert (failed, done.returncode) == ([], 0), done.stdout + done.stderr
    assert re.search(r"^ok +backup: ", done.stdout, re.MULTILINE)


def test_images_of_older_releases_are_deleted(production: Machine) -> None:
    """The last test. The releases that other tests have built are gone, except the current and the previous one."""
    production.must("deploy", "5.0.0")
    tags = run("docker", "image", "ls", "--format", "{{.Tag}}", NAME).split()
    assert {tag for tag in tags if not tag.endswith("-backup")} == {"1.0.0", "5.0.0", "current", "previous"}
