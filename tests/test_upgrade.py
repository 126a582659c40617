"""`make upgrade` after `copier update`: a service of 0.2.3 gets the names of this release and keeps every edit."""

from __future__ import annotations

import ast
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from codemod import read
from environments import connect
from live import install
from live import run as checked
from owner import Owner, build_on
from planting import swap
from questions import ROOT, read_yaml
from releases import Releases, commit, git
from updating import Answers, Service, Services, conflicts, differences, files, run, territory, update

pytestmark = pytest.mark.update

TABLE = read(ROOT / "hooks/releases/0.3.0.toml")
# Each framework, and each kind of storage. Releases before 0.3.0 do not change any more.
STACKS: dict[str, Answers] = {
    f"{framework}-{database}": {"framework": framework, "database": database}
    for framework, database in (("fastapi", "sqlite"), ("flask", "postgresql"), ("flask", "none"))
}
# The stacks whose checks run.
CHECKED = ("fastapi-sqlite", "flask-postgresql")
# The suite takes one service of each kind through the upgrade, and `make upgrades` all others.
OTHERS = pytest.mark.upgrades
Upgrade = Callable[..., "Done"]


@dataclass(frozen=True)
class Done:
    """The output and exit code of `make upgrade`."""

    status: int
    diff: str
    said: str


@pytest.fixture
def upgrade(tool: Callable[[str], str], tmp_path: Path) -> Upgrade:
    """Runs `make upgrade` in a service, with this Python for the environment that uv would make."""
    uv = tmp_path / "uv"
    uv.write_text(
        f'#!/bin/sh\nwhile [ "$1" != --script ]; do shift; done; shift; exec "{sys.executable}" "$@"\n', "utf-8"
    )
    uv.chmod(0o755)

    def make(project: Path, *arguments: str) -> Done:
        done = run(tool("make"), "--silent", f"UV={uv}", "upgrade", *arguments, cwd=project)
        return Done(done.returncode, done.stdout, done.stderr)

    return make


@pytest.fixture
def updated(releases: Releases, service: Service) -> Callable[..., Path]:
    """Renders a service of 0.2.3, lets its owner work, updates it, and commits that."""

    def bring(stack: str, work: Callable[[Path], object] = lambda _: None) -> Path:
        project = service(releases.path, "v0.2.3", STACKS[stack])
        work(project)
        assert conflicts(update(project, releases.new)) == []
        commit(project, "Update")
        return project

    return bring


def renamed(text: str) -> str:
    """Give a line or a path of the owner the names of this release, word by word."""
    words: dict[str, str] = {**TABLE.variables, **TABLE.commands, **TABLE.details}
    words |= {old.lower(): new.lower() for old, new in TABLE.variables.items()}
    for old, new in TABLE.names.items():
        words[old.rpartition(".")[2]] = new.rpartition(".")[2]
    for cls in TABLE.attributes.values():
        words |= cls
    for word in ("Settings", "answer"):  # the owner's own
        del words[word]
    for old, new in TABLE.modules.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    text = re.sub(r"(service)\.settings\.", r"\1.settings_as(Settings).", text)
    return re.sub(r"[\w-]+", lambda word: words.get(word[0], word[0]), text)


def lost(owner: Owner) -> list[str]:
    """The lines of the owner that are not there, but for imports, which tools sort and join."""
    moved = {f"{owner.package}/{old}": f"{owner.package}/{new}" for old, new in TABLE.files.items()}
    return [line for line in owner.lost(renamed, moved) if not re.search(r": (from|import) ", line)]


def imported(code: bytes) -> set[str]:
    """Every name that a file imports from the chassis."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    return {f"{node.module}.{alias.name}" for node in nodes for alias in node.names if "chassis" in (node.module or "")}


@pytest.mark.parametrize("stack", [pytest.param("fastapi-sqlite", marks=OTHERS), "flask-none"])
def test_upgrade_of_an_untouched_service_equals_a_fresh_render(
    stack: str, releases: Releases, updated: Callable[..., Path], upgrade: Upgrade, services: Services
) -> None:
    """Chassis and shared files are the same bytes; the owner's files use the same names of the chassis."""
    project = updated(stack)
    done = upgrade(project)
    assert done.status == 0, done
    after, recorded = files(project), read_yaml(project / ".copier-answers.yml")
    kept = {question: recorded[question] for question in ("features", "monitoring")}
    fresh = files(services(releases.path, releases.new, {**STACKS[stack], **kept}))
    assert differences(territory(after, yours=False), territory(fresh, yours=False)) == []
    ours, theirs = territory(after, yours=True), territory(fresh, yours=True)
    code = [path for path in sorted(ours.keys() & theirs.keys()) if path.endswith(".py") and "main.py" not in path]
    new = {path: imported(theirs[path]) for path in code}
    router = next(path for path in code if path.endswith("/notes/router.py"))
    new[router] |= {"chassis.errors.BadRequestError"}  # the example no longer needs it
    new[router] -= {"chassis.web.conditional.etag_of", "chassis.web.conditional.require_match"}
    service = next(path for path in code if path.endswith("/notes/service.py"))
    # The example of 0.2.3 has no ETags, counts nothing, and creates one note at a time.
    new[service] -= {"chassis.instrumentation.Counter", "chassis.errors.FieldError"}
    assert {path: imported(ours[path]) for path in code} == new


@pytest.mark.parametrize(
    "stack",
    [
        pytest.param("fastapi-sqlite", marks=[OTHERS, pytest.mark.stacks]),
        pytest.param("flask-postgresql", marks=pytest.mark.stacks),
        pytest.param("flask-none", marks=OTHERS),
    ],
)
def test_upgrade_of_a_developed_service_keeps_every_edit_and_passes_its_checks(
    stack: str, updated: Callable[..., Path], upgrade: Upgrade, request: pytest.FixtureRequest
) -> None:
    """A second domain, a feature, checks, hooks, errors and edits in all kinds of files are there, with new names.

    On the stacks that are installed, style, types and the tests of the owner are green.
    """
    owners: list[Owner] = []
    project = updated(stack, lambda path: owners.append(build_on(path)))
    done = upgrade(project)
    assert done.status == 0, done
    assert lost(owners[0]) == []
    assert conflicts(files(project)) == []
    package = owners[0].package
    assert f"{package}/chassis/logging/slow_operation.py took over your edits" in done.said
    assert re.search(rf"{package}/audit\.py:\d+: .*it must not block", done.said)
    if stack in CHECKED:
        connect(project, request.getfixturevalue("installed"))
        cache = str(request.getfixturevalue("libraries_in_mypy"))
        checked("make", "lint", "types", "test", cwd=project, MYPY_CACHE_DIR=cache)


@OTHERS
@pytest.mark.stacks
def test_upgrade_with_another_database_passes_its_tests(
    releases: Releases, service: Service, upgrade: Upgrade, installed: Path
) -> None:
    """A service of 0.2.3 that is updated to another database passes the tests that use it most."""
    project = service(releases.path, "v0.2.3", {"framework": "fastapi"})
    update(project, releases.new, database="postgresql", cache="redis")
    commit(project, "Update")
    assert upgrade(project).status == 0
    connect(project, installed)
    tests = ["tests/notes", *(f"tests/chassis/test_{name}.py" for name in ("database", "rate_limit"))]
    said = checked(".venv/bin/python", "-m", "pytest", "-q", *tests, cwd=project)
    assert re.search(r"\d+ passed", said), said


@OTHERS
@pytest.mark.stacks
def test_upgrade_a_backup_of_the_old_release_is_restored_by_it_first(
    releases: Releases, service: Service, upgrade: Upgrade, installed: Path
) -> None:
    """docs/updating.md: the old release restores its own backup, and this one migrates the database."""
    project = service(releases.path, "v0.2.3", STACKS["fastapi-sqlite"])
    python, note = install(project), ("Groceries", "Milk", "2026-07-01 02:00:00.000000")
    command, database = [str(python), "-m", "my_service"], project / "data/service.db"
    checked(*command, "migrate", cwd=project)
    with sqlite3.connect(database) as connection:
        connection.execute(
            "insert into notes (title, body, created_at, updated_at) values (?, ?, ?, ?)", [*note, note[2]]
        )
    checked(*command, "backup", cwd=project)
    shutil.rmtree(database.parent)
    (backup,) = (project / "backups").glob("*.backup")
    checked(*command, "restore", str(backup), cwd=project)
    update(project, releases.new)
    commit(project, "Update")
    assert upgrade(project).status == 0
    shutil.rmtree(project / ".venv")
    connect(project, installed)
    checked(*command, "migrate", cwd=project)
    checked(*command, "migrate", "check", cwd=project)
    with sqlite3.connect(database) as connection:
        assert connection.execute("select title, body, created_at from notes").fetchall() == [note]
    refused = run(*command, "restore", backup, cwd=project)
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr


@OTHERS
def test_upgrade_dry_run_shows_the_changes_and_a_second_run_makes_none(
    updated: Callable[..., Path], upgrade: Upgrade
) -> None:
    """The diff of the dry run is what the run then does; afterwards there is nothing to do."""
    project = updated("fastapi-sqlite", build_on)
    before = files(project)
    dry = upgrade(project, "DRY_RUN=yes")
    assert files(project) == before
    assert "would be changed to the names of 0.3.0" in dry.said
    upgrade(project)
    changed = git(project, "diff", "--name-only").split()
    assert re.findall(r"^\+\+\+ b/(.+)$", dry.diff, re.MULTILINE) == changed
    for line in ("-from ..chassis.service import Service", "+from ..chassis.app import Chassis"):
        assert f"\n{line}\n" in dry.diff
    commit(project, "Upgrade")
    second = upgrade(project)
    assert second.status == 0
    assert git(project, "status", "--porcelain") == ""
    assert "nothing to change" in second.said


def test_upgrade_names_what_it_cannot_rewrite(updated: Callable[..., Path], upgrade: Upgrade) -> None:
    """An unknown object, a name that is gone, and an edit to a file that was merged: file, line, remedy, exit code."""

    def work(project: Path) -> None:
        package = project / "src/my_service"
        (package / "jobs.py").write_text(
            '"""Jobs."""\n\nfrom .chassis.startup import policy\n\n\n'
            "def run(service):\n    policy(service.translators)\n"
        )
        swap("src/my_service/chassis/hosts.py", '"""Hosts"""', '"""Our hosts"""')(project)

    done = upgrade(updated("fastapi-sqlite", work))
    assert done.status == 2, done  # of make; the tool's is 1
    certain, _, uncertain = done.said.partition("Please check")
    assert "src/my_service/jobs.py:3: `chassis.startup.policy`" in certain
    assert re.search(r"src/my_service/chassis/hosts\.py:\d+: your 1 changed line.*chassis/web/policy\.py", certain)
    assert (
        "src/my_service/jobs.py:7: `.translators`: if this is the chassis's, it is now `error_translators`" in uncertain
    )


def test_upgrade_of_uncommitted_work_is_refused(updated: Callable[..., Path], upgrade: Upgrade) -> None:
    """Nothing changes until git could undo it; the same holds for conflicts that the update left."""
    project = updated("fastapi-sqlite")
    readme = project / "README.md"
    readme.write_text(readme.read_text() + "<<<<<<< before updating\n")
    before = files(project)
    refused = upgrade(project)
    assert refused.status != 0
    assert "Commit or stash it first" in refused.said
    commit(project, "A conflict")
    assert "Resolve the conflicts that the update left" in upgrade(project).said
    assert files(project) == before


@OTHERS
def test_upgrade_finds_the_owners_files_before_later_commits(updated: Callable[..., Path], upgrade: Upgrade) -> None:
    """Work after the update, even on the answers file, does not hide the commit before it."""
    project = updated("fastapi-sqlite", build_on)
    (project / "src/my_service/more.py").write_text('"""More."""\n')
    answers = project / ".copier-answers.yml"
    answers.write_text(answers.read_text() + "# ours\n")
    commit(project, "Later work")
    assert "took over your edits" in upgrade(project).said


def test_upgrade_of_a_fresh_service_changes_nothing(releases: Releases, service: Service, upgrade: Upgrade) -> None:
    """A service of this release has its names already."""
    project = service(releases.path, releases.new)
    done = upgrade(project)
    assert (done.status, git(project, "status", "--porcelain")) == (0, "")
    assert "nothing to change" in done.said


def test_upgrade_without_its_template_says_so(releases: Releases, service: Service, upgrade: Upgrade) -> None:
    """One sentence names the template that cannot be fetched."""
    project = service(releases.path, releases.new)
    answers = project / ".copier-answers.yml"
    answers.write_text(re.sub("_src_path: .*", f"_src_path: {project}/none", answers.read_text()))
    commit(project, "Moved")
    refused = upgrade(project)
    assert refused.status != 0
    assert "The template cannot be fetched" in refused.diff


def test_upgrade_renames_settings_in_a_local_env_file(updated: Callable[..., Path], upgrade: Upgrade) -> None:
    """Git ignores `.env`; its variables get their new names all the same, and a changed value is named."""
    project = updated("fastapi-sqlite")
    (project / ".env").write_text("HEALTH_CHECK_INTERVAL_SECONDS=5\nBACKUP_KEY=0123\n")
    done = upgrade(project)
    assert (project / ".env").read_text() == "HEALTH_CHECK_CACHE_SECONDS=5\nBACKUP_KEY=0123\n"
    assert ".env:2: `BACKUP_KEY`: its value is an age identity now" in done.said
