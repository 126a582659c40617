"""Deployment scripts when they fail or are interrupted. Stand-ins for Docker and kubectl record what the scripts call.

test_compose.py runs the script with a real engine, and `make cluster` runs the other one with a real cluster.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import targets
import yaml
from questions import ROOT
from rendering import Renderer

STAND_INS = ROOT / "tests/deployments/stand_ins"
# SQLite lets the new release start beside the old one. DuckDB is opened by one process only.
STAGES = {
    "sqlite": {
        "migrate": "run --rm --no-deps migrate",
        "start-beside": "--no-build app-next",
        "switch": "--force-recreate app",
    },
    "duckdb": {"migrate": "run --rm --no-deps migrate", "start": "--no-build app"},
}
# Ctrl-C interrupts Docker too. A pipeline that is cancelled, or a machine that stops, may end the script alone.
SIGNALS = ["INT", "+TERM"]


class Script:
    """A deployment script, and the folder in which the stand-ins have their state."""

    def __init__(self, service: Path, name: str, state: Path) -> None:
        self.service = service
        self._name = name
        self.state = state
        for folder in ("tools", "images", "labels", "running", "volumes", "containers", "sets"):
            (state / folder).mkdir(parents=True)
        for file in ("calls", "faults", "active", "unready"):
            (state / file).touch()
        (state / "migration").write_text("Complete", encoding="utf-8")
        for tool in STAND_INS.iterdir():
            (state / "tools" / tool.name).symlink_to(tool)
        # No test waits.
        (state / "tools/sleep").symlink_to("/bin/true")

    def run(self, *command: str, fault: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run the script. The stand-in for Docker describes faults."""
        (self.state / "faults").write_text(fault + "\n", encoding="utf-8")
        path = f"{self.state / 'tools'}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["sh", self._name, *command],
            cwd=self.service,
            env={"PATH": path, "STATE": str(self.state), "READY_SECONDS": "20", **variables},
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
            preexec_fn=targets.hear_ctrl_c,
            timeout=60,
        )

    def must(self, *command: str, **variables: str) -> None:
        done = self.run(*command, **variables)
        assert done.returncode == 0, done.stdout + done.stderr

    def refused(self, *command: str, fault: str = "") -> str:
        """Run a command that fails; return its last line."""
        done = self.run(*command, fault=fault)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stderr.splitlines()[-1]

    def calls(self) -> list[str]:
        return (self.state / "calls").read_text(encoding="utf-8").splitlines()

    def files(self, folder: str) -> dict[str, str]:
        """The content of each file of the state: a container has the id of its image, a set of pods its revision."""
        return {path.name: path.read_text().strip() for path in (self.state / folder).iterdir() if path.is_file()}


# A target and a database.
Make = Callable[[str, str], Script]


@pytest.fixture(scope="module")
def rendered(renderer: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Renders a service once. Read only."""

    @cache
    def render(target: str, database: str) -> Path:
        answers = {"service_name": "harbour", "database": database, "deployment": [target], "cache": "redis"}
        return renderer(tmp_path_factory.mktemp(target) / "harbour", answers).path

    return render


@pytest.fixture
def script(rendered: Callable[[str, str], Path], tmp_path: Path) -> Make:
    def make(target: str, database: str) -> Script:
        service = rendered(target, database)
        shutil.copytree(service / "deploy", tmp_path / "harbour/deploy")
        return Script(tmp_path / "harbour", f"deploy/{target}/deploy.sh", tmp_path / "state")

    return make


@pytest.fixture
def compose(script: Make) -> Script:
    return script("compose", "sqlite")


@pytest.fixture
def kubernetes(script: Make) -> Script:
    return script("kubernetes", "postgresql")


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize(("database", "stage"), [(name, stage) for name, stages in STAGES.items() for stage in stages])
def test_interrupted_deployment_leaves_a_release_that_serves(
    script: Make, database: str, stage: str, signal: str
) -> None:
    """Either release serves. The same command completes the deployment, and the way back is the release before."""
    compose = script("compose", database)
    compose.must("deploy", "1.0")
    last = compose.refused("deploy", "2.0", fault=f"{signal} {STAGES[database][stage]}")
    serving = "2.0" if stage == "switch" else "1.0"
    assert last == f"The deployment was interrupted; {serving} continues to serve. Run it again."
    assert f"sha256:{serving}" in compose.files("running").values()
    compose.must("deploy", "2.0")
    assert compose.files("running") == {"app": "sha256:2.0"}
    compose.must("rollback")
    assert compose.files("running") == {"app": "sha256:1.0"}


@pytest.mark.parametrize("signal", SIGNALS)
def test_interrupted_rollback_leaves_a_release_that_serves(compose: Script, signal: str) -> None:
    compose.must("deploy", "1.0")
    compose.must("deploy", "2.0")
    last = compose.refused("rollback", fault=f"{signal} --no-build app-next")
    assert last == "The rollback was interrupted; 2.0 continues to serve. Run it again."
    compose.must("rollback")
    assert compose.files("running") == {"app": "sha256:1.0"}


def test_deployment_while_another_folder_deploys_is_refused(compose: Script, tmp_path: Path) -> None:
    """The script was killed, so the lock is left. The message has the command that removes it."""
    compose.must("deploy", "1.0")
    other = tmp_path / "other/harbour"
    shutil.copytree(compose.service, other)
    compose.run("deploy", "2.0", fault="KILL run --rm --no-deps migrate")
    first, compose.service = compose.service, other
    sentences = [compose.refused(*command) for command in (["deploy", "3.0"], ["rollback"], ["take-over"])]
    sentence, _, command = sentences[0].partition(" If it is not, run: docker ")
    assert sentences == [sentences[0]] * 3
    assert re.fullmatch(rf"Another deployment is running \({first}, process \d+, \S+Z\)\.", sentence)
    assert compose.files("running") == {"app": "sha256:1.0"}
    subprocess.run([STAND_INS / "docker", *command.split()], env={"STATE": str(compose.state)}, check=True)
    compose.must("deploy", "3.0")
    assert compose.files("running") == {"app": "sha256:3.0"}
    assert not (compose.state / "volumes/harbour_deploying").exists()


@pytest.mark.parametrize("fault", ["INT --entrypoint cp", "+TERM --entrypoint cp", "fail --entrypoint cp", "fail stop"])
def test_interrupted_take_over_is_repeated_without_loss(compose: Script, fault: str) -> None:
    """The old volume has the data until the end, and an incomplete copy is not used."""
    old, new = (compose.state / "volumes" / f"harbour_{key}" for key in ("data", "database"))
    old.mkdir()
    (old / "service.sqlite3").write_text("the log book", encoding="utf-8")
    (compose.state / "containers/harbour").mkdir()
    (compose.state / "containers/harbour/app").touch()
    compose.refused("take-over", fault=fault)
    assert "take-over" in compose.refused("deploy", "1.0")
    if new.exists():
        (new / "half-of-a-file").touch()
    compose.must("take-over")
    copies = [{path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} for folder in (old, new)]
    assert copies == [{"service.sqlite3": "the log book"}] * 2
    compose.must("deploy", "1.0")


@pytest.mark.parametrize("log", ["/dev/full", "/proc/deployments.log"])
def test_log_that_cannot_be_written_does_not_end_a_deployment(compose: Script, log: str) -> None:
    """Neither a full disk nor a folder that is closed."""
    compose.must("deploy", "1.0")
    file = compose.service / "deploy/compose/deployments.log"
    file.unlink()
    file.symlink_to(log)
    done = compose.run("deploy", "2.0")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2.0 serves.")
    assert "deployments.log cannot be written: deploy 2.0 ok" in done.stderr
    assert compose.files("running") == {"app": "sha256:2.0"}


@pytest.mark.parametrize("place", ["environment", "file"])
def test_release_of_the_environment_is_ignored(compose: Script, place: str) -> None:
    """RELEASE and NEXT_RELEASE are for `docker compose` by hand."""
    compose.must("deploy", "1.0")
    names = {"RELEASE": "1.0", "NEXT_RELEASE": "1.0"}
    lines = "".join(f"{name}={value}\n" for name, value in names.items())
    (compose.service / ".env").write_text(lines if place == "file" else "", encoding="utf-8")
    compose.must("deploy", "2.0", **names if place == "environment" else {})
    assert compose.files("running") == {"app": "sha256:2.0"}
    tags = {tag.removeprefix("harbour:"): image for tag, image in compose.files("images").items()}
    assert tags == dict.fromkeys(("1.0", "previous"), "sha256:1.0") | dict.fromkeys(("2.0", "current"), "sha256:2.0")


@pytest.mark.parametrize(
    ("present", "files"),
    [
        ([], ["compose.yaml"]),
        (["compose.production.yaml"], ["compose.yaml", "compose.production.yaml"]),
        (["containers/harbour/prometheus"], ["compose.yaml", "compose.monitoring.yaml"]),
    ],
)
def test_other_commands_of_compose_read_the_files_of_production(
    compose: Script, present: list[str], files: list[str]
) -> None:
    """A container that is started without one of them would lose the owner's changes, or its metrics."""
    for path in present:
        place = (compose.state if path.startswith("containers") else compose.service) / path
        place.parent.mkdir(exist_ok=True)
        place.touch()
    compose.must("compose", "up", "--detach", "--no-deps", "proxy")
    read = " ".join(f"--file {name}" for name in files)
    assert compose.calls()[-1] == f"compose {read} up --detach --no-deps proxy"


@pytest.mark.parametrize(
    ("elsewhere", "started"),
    [
        ([], "postgresql redis proxy"),
        (["DATABASE_URL"], "redis proxy"),
        (["DATABASE_URL", "REDIS_URL"], "proxy"),
    ],
)
def test_server_with_an_address_in_the_env_file_is_not_started(
    rendered: Callable[[str, str], Path], script: Make, elsewhere: list[str], started: str
) -> None:
    """Managed servers take the place of the bundled ones."""
    compose = script("compose", "postgresql")
    lines = "".join(f"{name}=scheme://example.com/0\n" for name in elsewhere)
    (compose.service / ".env").write_text(lines, encoding="utf-8")
    compose.must("deploy", "1.0")
    (call,) = [call for call in compose.calls() if "--no-recreate" in call]
    assert call.partition("--wait ")[2] == started
    file = rendered("compose", "postgresql") / "compose.yaml"
    environment = yaml.safe_load(file.read_text(encoding="utf-8"))["services"]["app"]["environment"]
    # A variable of `.env` takes precedence over the file in secrets/, unless compose.yaml sets it.
    assert "DATABASE_URL" not in environment
    assert environment["REDIS_URL"].startswith("${REDIS_URL:-")


@pytest.mark.parametrize("tags", ["kept", "deleted"])
def test_rollback_to_an_image_without_a_label_serves_it(compose: Script, tags: str) -> None:
    """An image from a registry may have no label. Its version is then its tag, if it has another one."""
    for version in ("1.0", "2.0"):
        compose.must("deploy", version, IMAGE="registry.example.com/harbour", LABEL="")
    if tags == "deleted":
        (compose.state / "images/harbour:1.0").unlink()
    compose.must("rollback")
    assert compose.files("running") == {"app": "sha256:1.0"}
    assert compose.files("images")["harbour:previous"] == "sha256:2.0"


def test_release_that_does_not_become_ready_is_undone_and_forgotten(kubernetes: Script) -> None:
    """`rollback` then goes to the release before the one that serves, never to the failed one."""
    for image in ("one", "two"):
        kubernetes.must("deploy", "production", image, "backup")
    (kubernetes.state / "unready").write_text("bad\n", encoding="utf-8")
    last = kubernetes.refused("deploy", "production", "bad", "backup")
    assert last == "The release did not become ready, so the previous release was restored."
    assert kubernetes.files("sets") == {"one": "1", "two": "4"}
    kubernetes.must("rollback", "production")
    assert kubernetes.files("sets") == {"one": "5"}


def test_release_that_serves_is_never_undone(kubernetes: Script) -> None:
    """The same image is deployed again, and its pods are not ready. An undo would bring back an older release."""
    for image in ("one", "two"):
        kubernetes.must("deploy", "production", image, "backup")
    (kubernetes.state / "unready").write_text("two\n", encoding="utf-8")
    last = kubernetes.refused("deploy", "production", "two", "backup")
    assert last.startswith("two was deployed before, and its pods do not become ready: kubectl ")
    assert not [call for call in kubernetes.calls() if "rollout undo" in call]
    assert kubernetes.files("sets") == {"one": "1", "two": "2"}


@pytest.mark.parametrize(("file", "state"), [("migration", "Failed"), ("active", "1")])
def test_migration_that_fails_or_still_runs_leaves_the_release(kubernetes: Script, file: str, state: str) -> None:
    kubernetes.must("deploy", "production", "one", "backup")
    (kubernetes.state / file).write_text(state, encoding="utf-8")
    before = len(kubernetes.calls())
    assert "igration" in kubernetes.refused("deploy", "production", "two", "backup")
    changes = [call for call in kubernetes.calls()[before:] if re.search("apply|annotate|rollout", call)]
    assert all("--selector" in call for call in changes), changes
    assert kubernetes.files("sets") == {"one": "1"}
