"""The commands of a service's documents, run unchanged and in order.

Every command of every document is in a section that a test below declares with `walks`, or in NOT_RUN with the reason.
"""

import json
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import targets
import yaml
from aws.documented import PUSH
from containers.engine import Client, Container, remove_all, require, require_engine, wait_for
from containers.engine import run as engine
from deployments.machine import prepare
from documented import NAMES, Command, Walk, Walks, blocks, commands, declared_forms, forms, walks
from environments import connect
from live import START_SECONDS, Live, environment, serve
from rendering import Render, Renderer

SQLITE = {"framework": "fastapi", "database": "sqlite"}
DUCKDB = {"framework": "flask", "database": "duckdb"}
POSTGRESQL = {"framework": "flask", "database": "postgresql", "cache": "redis"}
MYSQL = {"framework": "fastapi", "database": "mysql"}

NAME, PACKAGE = NAMES.values()
START = "README.md: Start"
DOMAIN = "README.md: Add a domain"
UPDATES = "README.md: Updates"
MIGRATIONS = "CONTRIBUTING.md: Migrations"
BACKUP = "docs/backup.md: Backup and restore"
KEY = "docs/backup.md: The key"
FILE = "docs/backup.md: The file"
COMPOSE = "docs/backup.md: With Docker Compose"
TOOLS = "docs/backup.md: Tools"
IMAGE = "docs/deployment.md: Image requirements"
DATABASE = "docs/deployment.md: Database"
DEPLOY = "docs/options/compose.md: Deploy"
RUNBOOK = "docs/runbook.md: Docker Compose"
HEALTH = "docs/runbook.md: Health status"
LOGS = "docs/runbook.md: Find a request in the logs"
MARIADB_11 = "docs/runbook.md: MariaDB 10.11 to 11.8"
POSTGRESQL_18 = "docs/runbook.md: PostgreSQL 17 to 18"

ON_KUBERNETES = "docs/deployment.md: Kubernetes"
KUBERNETES_CHECKS = "docs/options/kubernetes.md: Checks"
KUBERNETES_BACKUPS = "docs/options/kubernetes.md: Backups"
CLUSTER = "`make cluster` runs it with a real API server"
NEWER = "the API server of `make cluster` lacks batch/v1 of a CronJob; tests/test_kubernetes.py validates the objects"
RESTORE = r"""kubectl create job --from cronjob/<service_name>-backup restore --dry-run=client --output yaml \
    | kubectl patch --local --filename - --type json --output yaml \
    --patch '[{"op": "add", "path": "/spec/template/spec/containers/0/args", "value": ["restore", "NAME"]}]' \
    | kubectl apply --filename -"""
RESTORE_OF_A_FILE = RESTORE.replace("]}]'", """]}, {"op": "remove", "path": "/spec/template/spec/affinity"}]'""")
OVERLAYS = "deploy/kubernetes/overlays/production"

RELEASE = "docs/deployment.md: Release pipeline"
API_KEYS = "docs/authentication.md: API keys"
# Commands that no test below runs, and why or where else.
NOT_RUN = {
    Command(ON_KUBERNETES, f"kubectl apply --filename {OVERLAYS}/namespace.yaml"): CLUSTER,
    Command(ON_KUBERNETES, f"cp deploy/kubernetes/base/secrets.env.example {OVERLAYS}/secrets.env"): CLUSTER,
    Command(
        ON_KUBERNETES,
        "make deploy-kubernetes OVERLAY=production IMAGE=registry.example.com/<service_name>@sha256:...",
    ): CLUSTER,
    Command(
        ON_KUBERNETES,
        "make deploy-kubernetes OVERLAY=production IMAGE=registry.example.com/<service_name>@sha256:... \\\n"
        "    BACKUP_IMAGE=registry.example.com/<service_name>@sha256:...",
    ): CLUSTER,
    Command(ON_KUBERNETES, "make rollback-kubernetes OVERLAY=production"): CLUSTER,
    Command(
        KUBERNETES_CHECKS, "kubectl exec deployment/<service_name> -- python -m <package_name> deploy-check"
    ): CLUSTER,
    Command(KUBERNETES_BACKUPS, "kubectl create job --from cronjob/<service_name>-backup backup-now"): NEWER,
    Command(KUBERNETES_BACKUPS, RESTORE): NEWER,
    Command(KUBERNETES_BACKUPS, RESTORE_OF_A_FILE): NEWER,
    **dict.fromkeys(
        (
            Command(
                PUSH,
                "registry=$(aws ecr describe-repositories --repository-names <service_name>-production"
                " --query 'repositories[0].repositoryUri' --output text)",
            ),
            Command(
                PUSH,
                'aws ecr get-login-password | docker login --username AWS --password-stdin "${registry%%/*}"',
            ),
            Command(PUSH, 'docker build --tag "$registry:1.0.0" .'),
            Command(PUSH, 'docker push "$registry:1.0.0"'),
        ),
        "pushes to a registry of AWS, which the simulator does not have",
    ),
    Command(
        "docs/monitoring.md: Start",
        "sh deploy/compose/deploy.sh monitoring",
    ): "starts images of Grafana, Loki and Alloy, which no test can build; test_monitoring.py checks the files",
    Command(RUNBOOK, "docker builder prune --force"): "deletes what the builds of all tests have cached",
    Command(RELEASE, "git tag v0.1.0"): "test_pipelines.py runs the pipeline of this tag",
    Command(RELEASE, "git push origin v0.1.0"): "needs a repository at GitHub or GitLab",
    Command(RELEASE, "gh workflow run deploy.yml --ref v0.1.0"): "needs GitHub; test_pipelines.py runs the workflow",
    **dict.fromkeys(
        (
            Command(
                API_KEYS,
                ".venv/bin/python -m <package_name> api-keys create coffee-app --scopes notes:read,notes:write"
                " --expires-days 90",
            ),
            Command(API_KEYS, ".venv/bin/python -m <package_name> api-keys list"),
            Command(API_KEYS, ".venv/bin/python -m <package_name> api-keys revoke ID"),
        ),
        "test_api_keys_database.py and test_api_keys_without_database.py of the service run them",
    ),
    Command(
        "docs/authentication.md: Access tokens",
        'curl -H \'Content-Type: application/json\' -d \'{"subject": "alice", "scopes": ["notes:read"]}\' '
        "http://127.0.0.1:8000/development/token",
    ): "test_jwt.py of the service sends this request",
    Command(UPDATES, "uvx copier update --defaults"): "tests/test_documented_updates.py runs it",
    Command(UPDATES, "make setup check"): "test_make_check_of_a_fresh_render_passes runs it",
}
# Other names of the language of commands, which is `sh`.
SHELLS = {"bash", "console", "shell", "zsh"}
CONTAINERS = [pytest.mark.containers, pytest.mark.stacks, pytest.mark.xdist_group("containers")]
PASSWORD = "ballast"  # noqa: S105
Make = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def connected(renderer: Renderer, installed: Path, tmp_path: Path) -> Make:
    """Makes a service that is installed."""

    def make(answers: Mapping[str, str]) -> Path:
        service = renderer(tmp_path / NAME, answers).path
        connect(service, installed)
        return service

    return make


@pytest.fixture
def contained(connected: Make) -> Iterator[Make]:
    """Makes a service whose images exist, and removes its containers, images and data before and afterwards.

    All services have one name, because the documents do. An interrupted test run leaves those of the last one.
    """
    require_engine()

    def make(answers: Mapping[str, str]) -> Path:
        service = connected(answers)
        prepare(service)
        return service

    remove_all(is_documented)
    yield make
    remove_all(is_documented)


def is_documented(name: str) -> bool:
    return name.startswith(NAME)


@pytest.fixture
def walk(request: pytest.FixtureRequest) -> Iterator[Walk]:
    """The service of a declaration. At the end of a test that passed, all commands of its sections were run."""
    declared: Walks = request.param
    service = request.getfixturevalue(declared.service)(declared.answers)
    found = declared.commands(Render(service, declared.answers).files())
    walk = Walk(service, [command for command in found if command not in NOT_RUN])
    failed = request.session.testsfailed
    yield walk
    assert request.session.testsfailed > failed or walk.left == []


@contextmanager
def started(walk: Walk, section: str, log: Path) -> Iterator[None]:
    """Run the next command of a section, which starts the service at its own address, during the block."""
    (command,) = walk.take(section, 1)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command.split(), cwd=walk.service, env=environment(), stdout=output, stderr=subprocess.STDOUT,
            process_group=0, preexec_fn=targets.hear_ctrl_c,
        )  # fmt: skip
    try:
        Live("http://127.0.0.1:8000", process, log).wait_until_ready(START_SECONDS)
        yield
    finally:
        targets.interrupt(process)


class TestDeclarations:
    """The commands in the documents, and the tests that run them."""

    def test_every_command_of_every_document_is_run_or_says_why_not(
        self, renders: list[Render], renderer: Renderer, tmp_path: Path
    ) -> None:
        there = {command for render in renders for command in forms(render)}
        run = declared_forms(renderer, tmp_path) - NOT_RUN.keys()
        assert sorted(map(str, there - run - NOT_RUN.keys())) == []
        assert NOT_RUN.keys() <= there

    def test_commands_of_a_document_are_known_by_their_heading(self) -> None:
        """One that continues on the next line is one command, and a heading in a block is none."""
        page = b"# A\n\n## B\n\n```sh\none \\\n  --more\ntwo\n```\n\n```python\n# C\n```\n\n```sh\nthree\n```\n"
        texts = ["one \\\n  --more", "two", "three"]
        assert list(commands({"a.md": page})) == [Command("a.md: B", text) for text in texts]

    def test_commands_are_in_blocks_of_shell(self, renders: list[Render]) -> None:
        """No block says `bash` or `console`, where the other tests would not look for commands."""
        languages = {language for render in renders for _, language, _ in blocks(render.files())}
        assert languages & SHELLS == set()

    def test_targets_that_documents_name_are_in_the_makefile(self, renders: list[Render]) -> None:
        """`make check` in a sentence is a target of that service."""
        for render in renders:
            files = render.files()
            targets = set(re.findall(r"^([a-z-]+):", files["Makefile"].decode(), re.MULTILINE))
            for path in files:
                if path.endswith(".md"):
                    named = set(re.findall(r"`make ([a-z-]+)", files[path].decode()))
                    assert named <= targets, (path, named - targets)


class TestOnThisMachine:
    """Commands that need no container."""

    pytestmark = pytest.mark.stacks

    @walks(SQLITE, sections=[MIGRATIONS])
    def test_a_column_is_added_as_contributing_says(self, walk: Walk) -> None:
        walk.run("make migrate")
        models = walk.service / "src" / PACKAGE / "notes/models.py"
        text = models.read_text(encoding="utf-8")
        models.write_text(text + "    colour: Mapped[str | None] = mapped_column(String(20))\n", encoding="utf-8")
        walk.shell(MIGRATIONS)
        walk.run("make validate")
        (revision,) = (walk.service / "migrations/versions").glob("*add_a_colour_to_notes.py")
        assert "colour" in revision.read_text(encoding="utf-8")

    @walks(SQLITE, sections=[BACKUP, KEY, FILE])
    def test_a_backup_is_made_restored_and_opened_with_other_tools(
        self, walk: Walk, tool: Callable[[str], str]
    ) -> None:
        tool("age")
        database, backups = walk.service / "data/service.db", walk.service / "backups"
        walk.run("make migrate")
        with sqlite3.connect(database) as connection:
            connection.execute("INSERT INTO notes VALUES (1, 'Kept', '', NULL, '2026-01-01', '2026-01-01')")
        connection.close()
        walk.shell(BACKUP, 1)
        database.unlink()
        (backup,) = backups.iterdir()
        walk.shell(BACKUP, values={"NAME": backup.name})
        assert titles(database) == ["Kept"]
        key = walk.shell(KEY).splitlines()[-1]
        (walk.service / ".env").write_text(f"BACKUP_KEY={key}\n", encoding="utf-8")
        (walk.service / "key.txt").write_text(f"{key}\n", encoding="utf-8")
        walk.run("make backup")
        (encrypted,) = backups.glob("*.age")
        walk.shell(FILE, values={"KEY-FILE": "key.txt", "NAME.tar.gz.age": str(encrypted)})
        assert titles(walk.service / "database.sqlite") == ["Kept"]

    @walks(SQLITE, sections=[HEALTH, LOGS])
    def test_a_request_is_found_in_the_logs_as_the_runbook_says(
        self, walk: Walk, tool: Callable[[str], str], tmp_path: Path
    ) -> None:
        tool("jq")
        (walk.service / "service.log").symlink_to(tmp_path / "service.log")
        with serve(walk.service, PACKAGE, tmp_path, {"ENVIRONMENT": "development"}) as live, live.client() as client:
            assert '"status":"healthy"' in walk.shell(HEALTH, values={"HOST": live.url})
            client.get("/api/v1/notes", headers={"X-Request-ID": "wanted"})
            (database,) = tmp_path.glob("*.db")
            with sqlite3.connect(database) as connection:
                connection.execute("DROP TABLE notes")
            connection.close()
            failed = client.get("/api/v1/notes").json()["error_id"]
        wanted = json.loads(walk.shell(LOGS, 1, {"...": "wanted"}))
        assert (wanted["event"], wanted["url.path"]) == ("request_finished", "/api/v1/notes")
        assert "no such table: notes" in walk.shell(LOGS, 1, {"...": failed})
        assert walk.shell(LOGS, 1) == ""
        assert walk.shell(LOGS, 1).split() == ["1", "200", "1", "500"]


def titles(database: Path) -> list[str]:
    """The titles of the notes in a file of SQLite."""
    connection = sqlite3.connect(database)
    try:
        return [title for (title,) in connection.execute("SELECT title FROM notes")]
    finally:
        connection.close()


class TestInContainers:
    """Commands that start containers."""

    pytestmark = CONTAINERS

    @walks(POSTGRESQL, MYSQL, sections=[START], service="contained")
    def test_start_of_the_readme_runs_as_it_stands(self, walk: Walk, tmp_path: Path) -> None:
        """The servers start in containers, `make run` serves, and the calls get their responses."""
        walk.shell(START, 2)
        written = (walk.service / ".env").read_text(encoding="utf-8")
        with started(walk, START, tmp_path / "run.log"):
            said = walk.shell(START)
            assert '"status":"healthy"' in said
            assert said.count('"title":"Hello"') == 2
        (walk.service / ".env").write_text(f"{written}# ours\n", encoding="utf-8")
        walk.run("make services")
        assert (walk.service / ".env").read_text(encoding="utf-8") == f"{written}# ours\n"

    @walks(SQLITE, sections=[START, DOMAIN])
    def test_start_without_servers_runs_as_it_stands(self, walk: Walk, tmp_path: Path) -> None:
        """Among the tests of containers, because only one service at a time can have the address."""
        walk.shell(START, 1)
        with started(walk, START, tmp_path / "run.log"):
            assert walk.shell(START).count('"title":"Hello"') == 2
        walk.shell(DOMAIN, 1)
        with started(walk, DOMAIN, tmp_path / "run.log"):
            assert '"title":"Hello"' in walk.shell(DOMAIN)

    @walks(POSTGRESQL, sections=[POSTGRESQL_18], service="contained")
    def test_data_of_postgresql_17_move_to_18_as_the_runbook_says(self, walk: Walk) -> None:
        """The dump brings the rows into the new server, where they belong to the service, and the old volume stays."""
        with older(walk, "postgresql", "postgres:17-bookworm", "/var/lib/postgresql/data", OLD_POSTGRESQL):
            psql = "docker compose exec -T postgresql psql --username=service --command"
            walk.run(f"{psql} 'CREATE TABLE kept AS VALUES (1851)'")
            walk.shell(POSTGRESQL_18, 4)
        walk.shell(POSTGRESQL_18)
        psql = (
            "docker compose -f compose.yaml exec -T postgresql psql --username=postgres service --tuples-only --command"
        )
        assert walk.run(f"{psql} 'TABLE kept'").strip() == "1851"
        owner = f"{psql} \"SELECT tableowner FROM pg_tables WHERE tablename = 'kept'\""  # noqa: S608
        assert walk.run(owner).strip() == "service"
        assert walk.run(f"docker volume inspect {NAME}_data")

    @walks(MYSQL, sections=[MARIADB_11, IMAGE, DATABASE, TOOLS], service="contained")
    def test_data_of_mariadb_10_stay_in_11_as_the_runbook_says(self, walk: Walk) -> None:
        """The new server upgrades a copy of the old files, and the dump of the old server holds the rows."""
        with older(walk, "mysql", "mariadb:10.11", "/var/lib/mysql", OLD_MARIADB):
            sql = f"exec -T mysql mariadb --user=service --password={PASSWORD} service --execute"
            walk.run(f'docker compose {sql} "CREATE TABLE kept SELECT 1851"')
            walk.shell(MARIADB_11, 4)
        assert "1851" in (walk.service / "mariadb-10.sql").read_text(encoding="utf-8")
        refused = walk.run("sh deploy/compose/deploy.sh deploy 1.0.0 2>&1 || true")
        assert "run: sh deploy/compose/deploy.sh take-over" in refused
        walk.shell(MARIADB_11)
        assert "1851" in walk.run(f"docker compose -f compose.yaml {sql} 'SELECT * FROM kept'")  # noqa: S608
        assert walk.run(f"docker volume inspect {NAME}_data")
        walk.run("docker compose -f compose.yaml down --timeout 1")
        variables = [f"--env=MARIADB_{name}" for name in ("DATABASE=service", "USER=service", f"PASSWORD={PASSWORD}")]
        server = start_healthy_container("healthcheck.sh --connect", *variables, "mariadb:11.8")
        address = server.inspect()["NetworkSettings"]["IPAddress"]
        deploy(walk, f"mysql://service:{PASSWORD}@{address}:3306/service")
        assert re.search(r"/backups/\S+\.tar\.gz: ", walk.shell(TOOLS))

    @walks(SQLITE, sections=[IMAGE, DATABASE, DEPLOY, RUNBOOK, COMPOSE], service="contained")
    def test_the_image_is_deployed_and_its_data_comes_back(self, walk: Walk) -> None:
        deploy(walk, f"sqlite:////data/{NAME}.db")
        walk.shell(DEPLOY, 1)
        fill_in(walk, ALLOWED_HOSTS="localhost", SHUTDOWN_DRAIN_SECONDS="0", **PORTS)
        walk.shell(DEPLOY, 1)
        walk.run("make deploy VERSION=1.0.1")
        walk.shell(DEPLOY)
        assert "deploy 1.0.1 ok" in walk.shell(RUNBOOK, 3)
        walk.shell(RUNBOOK)
        client = Client(8000)
        status, note = client.request("POST", "/api/v1/notes", {"title": "Hello"})
        assert status == 201
        names = walk.shell(COMPOSE, 3).split()
        assert client.request("DELETE", f"/api/v1/notes/{note['id']}")[0] == 204
        walk.shell(COMPOSE, 3, values={"NAME": names[-1]})
        assert {path.name for path in walk.service.glob("copies/**/*.tar.gz")} >= {names[-1]}
        wait_for(lambda: client.request("GET", f"/api/v1/notes/{note['id']}") == (200, note))
        with offsite(walk) as server:
            walk.shell(COMPOSE)
            wait_for(lambda: names[-1] in server.sh("ls /tmp/backups || true"))

    @walks(DUCKDB, sections=[IMAGE, DATABASE], service="contained")
    def test_the_image_of_an_exclusive_database_is_deployed(self, walk: Walk) -> None:
        deploy(walk, f"duckdb:////data/{NAME}.duckdb")


OLD_POSTGRESQL = {"POSTGRES_USER": "service", "POSTGRES_PASSWORD": PASSWORD}
OLD_MARIADB = {"MARIADB_DATABASE": "service", "MARIADB_USER": "service", "MARIADB_PASSWORD": PASSWORD}
# Other programs may have the ports of HTTP and HTTPS.
PORTS = {"HTTP_PORT": "127.0.0.1:0", "HTTPS_PORT": "127.0.0.1:0"}


@contextmanager
def older(walk: Walk, server: str, image: str, folder: str, variables: Mapping[str, str]) -> Iterator[None]:
    """Run the containers of the compose.yaml of an older release during the block."""
    require("stand_ins.sh", image)
    database = {"image": image, "environment": dict(variables), "volumes": [f"data:{folder}"], "healthcheck": {}}
    probe = "pg_isready --host=127.0.0.1" if server == "postgresql" else "healthcheck.sh --connect"
    database["healthcheck"] = {"test": probe, "interval": "1s", "retries": 120}
    app = {"image": image, "entrypoint": ["sleep", "infinity"], "init": True}
    services = {"app": app, server: database}
    compose = walk.service / "compose.yaml"
    new = compose.read_text(encoding="utf-8")
    compose.write_text(json.dumps({"services": services, "volumes": {"data": {}}}), encoding="utf-8")
    settings = {"DATABASE_PASSWORD": PASSWORD, "SHUTDOWN_DRAIN_SECONDS": "0", **PORTS}
    text = "".join(f"{name}={value}\n" for name, value in settings.items())
    (walk.service / ".env").write_text(text, encoding="utf-8")
    walk.run("docker compose -f compose.yaml up --detach --wait")
    yield
    compose.write_text(new, encoding="utf-8")


def start_healthy_container(probe: str, *arguments: str) -> Container:
    """Start a server in a container, and wait until its health check succeeds."""
    health = (f"--health-cmd={probe}", "--health-interval=1s", "--health-retries=600")
    server = Container(engine("docker", "run", "--detach", f"--name={NAME}-database", *health, *arguments))
    server.wait_until_healthy()
    return server


@contextmanager
def offsite(walk: Walk) -> Iterator[Container]:
    """Run another machine that takes files by WebDAV, in the place of a cloud, and set the service up for it."""
    fill_in(walk, BACKUP_COPY_TO="offsite:backups")
    rclone = yaml.safe_load((walk.service / "compose.yaml").read_text(encoding="utf-8"))["services"]["backup-copy"][
        "image"
    ]
    require("stand_ins.sh", rclone)
    remote = "[offsite]\ntype = webdav\nvendor = other\nurl = http://offsite:8080\n"
    (walk.service / "secrets/rclone.conf").write_text(remote, encoding="utf-8")
    network = (f"--network={NAME}_edge", "--network-alias=offsite")
    serve = ("serve", "webdav", "/tmp", "--addr", ":8080")  # noqa: S108
    server = start_healthy_container("rclone lsf --webdav-url http://localhost:8080 :webdav:", *network, rclone, *serve)
    try:
        yield server
    finally:
        engine("docker", "rm", "--force", server.name)


def fill_in(walk: Walk, **values: str) -> None:
    """Fill in the form, and add what it does not have."""
    form = walk.service / ".env"
    text = form.read_text(encoding="utf-8")
    for name, value in values.items():
        text, count = re.subn(rf"^(# )?{name}=.*", f"{name}={value}", text, flags=re.MULTILINE)
        text += f"{name}={value}\n" * (not count)
    form.write_text(text, encoding="utf-8")


def deploy(walk: Walk, url: str) -> None:
    """Build the image, fill in the settings, and start the service as docs/deployment.md says."""
    walk.shell(IMAGE, 2)
    fill_in(walk, ALLOWED_HOSTS="localhost", DATABASE_URL=url, SHUTDOWN_DRAIN_SECONDS="0")
    walk.shell(IMAGE)
    # The release before, which these commands replace.
    engine("docker", "run", "--detach", f"--name={NAME}", "--env-file=.env", NAME, "check", cwd=walk.service)
    walk.shell(DATABASE)
    Container(NAME).wait_until_healthy()
    assert Client(8000).request("GET", "/api/v1/notes")[0] == 200
    engine("docker", "rm", "--force", NAME)
