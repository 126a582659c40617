"""The commands of a service's documents that start its servers in containers, run unchanged and in order."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import targets
import yaml
from containers.engine import require, require_engine, wait_for
from environments import connect
from live import START_SECONDS, Live, environment
from live import run as run_in
from rendering import Renderer

pytestmark = [pytest.mark.containers, pytest.mark.stacks, pytest.mark.xdist_group("containers")]

STACKS = {
    "postgresql": {"framework": "flask", "database": "postgresql", "cache": "redis"},
    "mysql": {"framework": "fastapi", "database": "mysql"},
}
# The compose file requires a value, but any value will do.
SECRET = {"DATABASE_PASSWORD": "ballast"}
Make = Callable[[str], Path]


@pytest.fixture
def started(renderer: Renderer, installed: Path, tmp_path: Path) -> Iterator[Make]:
    """Render a stack that is installed; its containers and their data go afterwards."""
    require_engine()
    made = []

    def render(stack: str) -> Path:
        service = renderer(tmp_path / f"service-{stack}", STACKS[stack]).path
        require("stand_ins.sh", *images(service))
        connect(service, installed)
        made.append(service)
        return service

    yield render
    for service in made:
        shell(service, "docker compose --profile '*' down --volumes --timeout 5", **SECRET)


def images(service: Path) -> list[str]:
    """The images of the servers that the compose file starts."""
    services = yaml.safe_load((service / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return [row["image"] for row in services.values() if "$" not in row["image"]]


def blocks(service: Path, document: str, heading: str) -> list[str]:
    """The shell commands below a heading of a document, a text for each block."""
    text = (service / document).read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found, f"{document} has no commands below {heading}"
    return found


def shell(service: Path, script: str, **variables: str) -> str:
    """Run commands as a person would paste them into a shell; each must succeed."""
    return run_in("bash", "-ec", script, cwd=service, **variables)


@pytest.mark.parametrize("stack", STACKS)
def test_start_of_the_readme_runs_as_it_stands(stack: str, started: Make, tmp_path: Path) -> None:
    """The servers start in containers, `make run` serves, and the calls get their responses."""
    service = started(stack)
    start, calls = blocks(service, "README.md", "Start")[:2]
    *prepare, last = start.splitlines()
    assert last == "make run"
    shell(service, "\n".join(prepare))
    written = (service / ".env").read_text(encoding="utf-8")
    log = tmp_path / "run.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["make", "run"], cwd=service, env=environment(), stdout=output, stderr=subprocess.STDOUT,
            process_group=0, preexec_fn=targets.hear_ctrl_c,
        )  # fmt: skip
    try:
        Live("http://127.0.0.1:8000", process, log).wait_until_ready(START_SECONDS)
        said = shell(service, calls)
        assert '"status":"healthy"' in said
        assert said.count('"title":"Hello"') == 2
    finally:
        targets.interrupt(process)
    (service / ".env").write_text(f"{written}# ours\n", encoding="utf-8")
    shell(service, "make services")
    assert (service / ".env").read_text(encoding="utf-8") == f"{written}# ours\n"


def test_data_of_postgresql_17_move_to_18_as_the_runbook_says(started: Make) -> None:
    """The new server refuses the old files, the dump brings the rows, and the old files stay in the volume."""
    service = started("postgresql")
    compose, variables = service / "compose.yaml", SECRET | {"COMPOSE_FILE": "compose.yaml"}
    new = compose.read_text(encoding="utf-8")
    old = new.replace("postgres:18-trixie", "postgres:17-bookworm")
    old = old.replace("data:/var/lib/postgresql", "data:/var/lib/postgresql/data")
    compose.write_text(old, encoding="utf-8")
    require("stand_ins.sh", *images(service))
    psql = "docker compose exec -T postgresql psql --username=service --tuples-only --command"
    shell(service, "docker compose up --detach --wait postgresql", **variables)
    shell(service, f"{psql} \"CREATE TABLE kept AS VALUES ('ballast')\"", **variables)
    dump, load = blocks(service, "docs/runbook.md", "PostgreSQL 17 to 18")
    shell(service, dump, **variables)
    compose.write_text(new, encoding="utf-8")
    refused = subprocess.run(
        ["docker", "compose", "up", "--detach", "--wait", "postgresql"],
        cwd=service, env=environment(**variables), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode != 0
    wait_for(lambda: "PostgreSQL data" in shell(service, "docker compose logs postgresql", **variables))
    shell(service, "docker compose stop", **variables)
    # The last command builds the image of the backups, with packages from apt.postgresql.org.
    *commands, last = load.splitlines()
    assert last == "docker compose up --build --detach --wait"
    shell(service, "\n".join(commands), **variables)
    assert "ballast" in shell(service, f"{psql} 'TABLE kept'", **variables)
    aside = "docker compose exec -T postgresql cat /var/lib/postgresql/before-18/PG_VERSION"
    assert shell(service, aside, **variables).strip() == "17"
