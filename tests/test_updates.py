"""Updates: an untouched service becomes what a fresh render is, and an edited one keeps every line of its owner's."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import example_services
import pytest
import yaml
from copier import run_copy, run_recopy, run_update
from environments import connect
from owner import develop
from planting import each, put, swap
from questions import ROOT, read_yaml, values
from releases import Releases, commit, git, recorded, starting_points
from suites import WHOLE
from updating import (
    DEFAULTS,
    QUIETLY,
    Answers,
    Service,
    Services,
    conflicts,
    copier,
    differences,
    files,
    run,
    territory,
    update,
)

pytestmark = pytest.mark.update

STACKS = {path.stem: read_yaml(path) for path in sorted((ROOT / "tests/answers").glob("*.yml"))}
# Both frameworks, a server and a file, every target, both pipelines, everything and nothing.
DIVERSE = {*WHOLE, "fastapi-postgresql-redis", "flask-postgresql", "flask-none-bare"}
CHASSIS = "template/src/{{package_name}}/chassis"
# `make upgrades` updates the other examples.
UPDATED_EXAMPLES = ("insurance",)


@pytest.fixture(scope="session")
def hardened(releases: Releases, tmp_path_factory: pytest.TempPathFactory) -> Releases:
    """The same, and one release more, which changes what hardening typically changes."""
    path = tmp_path_factory.mktemp("hardened") / "seaworthy"
    git(releases.path, "clone", "--quiet", str(releases.path), str(path))
    each(
        put(f"{CHASSIS}/tarpit.py", '"""Slows down who knocks too often."""\n'),
        swap(f"{CHASSIS}/errors.py", '"""', '"""Hardened. '),
        swap(f"{CHASSIS}/features.py.jinja", "from __future__", "# a tarpit comes first\nfrom __future__"),
        swap("options/derived.yml", '"structlog', '"anyio>=4.9", "structlog'),
        swap("options/sqlite/settings.env", "# DATABASE_URL", "# Hardened.\n# DATABASE_URL"),
        swap("options/sqlite/settings.md", "| `DATABASE_URL`", "| `DATABASE_HARDENED` | | | |\n| `DATABASE_URL`"),
        swap("template/Dockerfile.jinja", "FROM", "# hardened\nFROM"),
        swap("template/README.md.jinja", "# {{ project_name }}", "# {{ project_name }}, hardened"),
        swap("template/{{on_fastapi}}/src/{{package_name}}/main.py", "return app", "return app  # hardened"),
    )(path)
    commit(path, "Hardening", "v0.999.0")
    return Releases(path, (releases.new,), "v0.999.0")


def stacks_of_releases() -> Iterator[Any]:
    """Yield the newest release with the answers of the stacks in `DIVERSE`, and each other one with one of `WHOLE`.

    A question that came later gets its default.
    """
    newest = f"v{list(recorded())[-1]}"
    for number, (version, name) in enumerate(starting_points().items()):
        listed = git(ROOT, "ls-tree", "--name-only", name, "tests/answers/").splitlines()
        stacks = DIVERSE if version == newest else {WHOLE[number % 2]}
        for path in (path for path in listed if Path(path).stem in stacks):
            answers = yaml.safe_load(git(ROOT, "show", f"{name}:{path}"))
            yield pytest.param(version, answers, id=f"{version}-{Path(path).stem}")


@pytest.mark.parametrize(("version", "answers"), list(stacks_of_releases()))
def test_an_untouched_service_becomes_a_fresh_render(
    version: str, answers: Answers, releases: Releases, service: Service, services: Services
) -> None:
    """An update of an untouched service equals a fresh render, byte for byte; the owner's files stay as they were.

    No release from 0.3.0 on takes a file away: the default of a later question keeps it.
    """
    before = files(project := service(releases.path, version, answers))
    after = update(project, releases.new)
    may_rename = not git(releases.path, "ls-tree", version, "hooks/releases/0.3.0.toml")
    assert may_rename or sorted(before.keys() - after.keys()) == []
    added = read_yaml(project / ".copier-answers.yml")
    kept = {question: added[question] for question in ("features", "monitoring")}
    fresh = files(services(releases.path, releases.new, {**answers, **kept}))
    assert differences(territory(after, yours=False), territory(fresh, yours=False)) == []
    assert differences(territory(after, yours=True), territory(before, yours=True)) == []


def test_a_package_name_that_is_reserved_later_is_kept(releases: Releases, service: Service) -> None:
    """A service named like a library that a later release installs still updates."""
    answers = {"package_name": "requests", "features": [], "ci": "none"}
    after = update(service(releases.path, "v0.3.0", answers), releases.new)
    assert {path.split("/")[1] for path in after if path.startswith("src/")} == {"requests"}


@pytest.mark.parametrize("version", starting_points())
def test_an_owner_loses_nothing(version: str, releases: Releases, service: Service) -> None:
    """From every release on, an update keeps every line of the owner's and leaves no conflict."""
    owner = develop(service(releases.path, version))
    after = update(owner.service, releases.new)
    assert owner.lost() == []
    assert conflicts(after) == []


def test_hardening_reaches_a_service_that_its_owner_changed(hardened: Releases, service: Service) -> None:
    """A release that changes the files an owner changed too brings all of its changes and takes none of the owner's."""
    owner = develop(service(hardened.path, hardened.old[0]))
    before = files(owner.service)
    after = update(owner.service, hardened.new)
    assert owner.lost() == []
    assert conflicts(after) == []
    assert differences(territory(after, yours=True), territory(before, yours=True)) == []
    new = {path for path, content in after.items() if before.get(path) != content}
    chassis = f"{owner.package}/chassis"
    brought = {f"{chassis}/{name}.py" for name in ("tarpit", "errors", "features")} | {"Dockerfile", "pyproject.toml"}
    assert new == brought | {"README.md", ".env.example", "docs/configuration.md", ".copier-answers.yml"}


@pytest.fixture
def drift(tool: Callable[[str], str], tmp_path: Path) -> Callable[[Path], tuple[int, str]]:
    """Runs `make drift` in a service, with this Copier for the one that uv would fetch."""
    uv = tmp_path / "uv"
    uv.write_text(f'#!/bin/sh\nwhile [ "$1" != copier ]; do shift; done; exec "{sys.executable}" -m "$@"\n', "utf-8")
    uv.chmod(0o755)

    def make(project: Path) -> tuple[int, str]:
        result = run(tool("make"), "--silent", f"UV={uv}", "drift", cwd=project)
        return result.returncode, result.stdout + result.stderr

    return make


@pytest.mark.parametrize("stack", ["fastapi-none-redis", "flask-postgresql"])
def test_an_untouched_chassis_has_not_drifted(
    stack: str, releases: Releases, service: Service, drift: Callable[[Path], tuple[int, str]]
) -> None:
    """`make drift` finds nothing in a service whose chassis no one edited, whatever was chosen."""
    status, said = drift(service(releases.path, releases.new, STACKS[stack]))
    assert (status, said) == (0, f"The chassis is as the template renders it at {releases.new}.\n")


def test_an_edit_of_the_chassis_is_merged_and_shows_in_drift(
    hardened: Releases, service: Service, drift: Callable[[Path], tuple[int, str]]
) -> None:
    """After an update an edited chassis file holds the edit and the hardening; `make drift` shows the edit alone."""
    owner = develop(service(hardened.path, hardened.old[0]))
    after = update(owner.service, hardened.new)
    edited = after[f"{owner.package}/chassis/errors.py"]
    assert b"Hardened. " in edited
    assert b"class PaymentError" in edited
    status, said = drift(owner.service)
    assert status != 0
    said = said.partition("The chassis, where an update may conflict with your edits:")[2]
    changed = [line for line in said.splitlines() if line.startswith(("+", "-")) and line[:3] not in ("+++", "---")]
    assert set(changed) == {"+", "+class PaymentError(ServiceError):", '+    """An order was not paid."""'}


def test_an_edit_of_the_chassis_s_tests_shows_in_drift(
    releases: Releases, service: Service, drift: Callable[[Path], tuple[int, str]]
) -> None:
    """`make drift` looks at what starts the servers of the tests as well."""
    project = service(releases.path, releases.new)
    put("tests/servers/mine.py", "MINE = True\n")(project)
    status, said = drift(project)
    assert status != 0
    assert "+MINE = True" in said


def test_records_of_the_owner_and_a_changed_checklist_do_not_conflict(hardened: Releases, service: Service) -> None:
    """The checklist belongs to the template. The page with the owner's records belongs to the owner."""
    project = service(hardened.path, hardened.old[0])
    swap("docs/production-readiness.md", "| Network | | | |", "| Network | today | me | |")(project)
    assert "[ ]" not in (project / "docs/production-checklist.md").read_text(encoding="utf-8")
    after = update(project, hardened.new)
    assert conflicts(after) == []
    assert b"| Network | today | me | |" in after["docs/production-readiness.md"]


def test_edits_of_shared_files_show_in_drift_and_do_not_fail_it(
    releases: Releases, service: Service, drift: Callable[[Path], tuple[int, str]]
) -> None:
    """`make drift` says which lines are the owner's. It does not compare files that the owner added."""
    project = service(releases.path, releases.new)
    swap("Makefile", ".DEFAULT_GOAL := help", ".DEFAULT_GOAL := run")(project)
    put("docs/ours.md", "# Ours\n")(project)
    (project / "SECURITY.md").unlink()
    status, said = drift(project)
    assert status == 0, said
    assert said.startswith(f"Lines with + are yours, lines with - are the template's ({releases.new}).\n")
    assert "--- template/Makefile" in said
    assert "\n-.DEFAULT_GOAL := help\n+.DEFAULT_GOAL := run\n" in said
    assert "--- template/SECURITY.md" in said
    assert "Ours" not in said
    assert said.endswith(f"The chassis is as the template renders it at {releases.new}.\n")


def test_drift_shows_the_message_of_copier(
    releases: Releases, service: Service, drift: Callable[[Path], tuple[int, str]]
) -> None:
    """A template out of reach, and an answer that it does not accept, are named."""
    project = service(releases.path, releases.new)
    answers = project / ".copier-answers.yml"
    recorded = answers.read_text(encoding="utf-8")
    for old, new, message in [
        (f"_src_path: {releases.path}", "_src_path: /nowhere", "Local template must be a directory."),
        ("license: mit", "license: gpl", "'gpl' is not in"),
    ]:
        assert old in recorded
        answers.write_text(recorded.replace(old, new), encoding="utf-8")
        status, said = drift(project)
        assert status != 0
        assert message in said.partition("The template cannot be rendered: is ")[0], said
        assert "Traceback" not in said


def test_edits_in_several_hunks_of_one_file_are_kept(hardened: Releases, service: Service) -> None:
    """The owner's edits of a chassis file and of shared ones survive hardening of the lines between them."""
    project = service(hardened.path, hardened.old[0])
    errors = "src/my_service/chassis/errors.py"
    edits = {
        errors: [
            ("class NotFoundError", "OURS = 1\n\n\nclass NotFoundError"),
            ("class UnavailableError", "OURS_TOO = 2\n\n\nclass UnavailableError"),
        ],
        "README.md": [("## Stack", "## Ours\n\n## Stack"), ("## License", "## Ours, too\n\n## License")],
        "Dockerfile": [
            ("EXPOSE 8000", "EXPOSE 8000 9000"),
            ("STOPSIGNAL SIGTERM", "STOPSIGNAL SIGINT"),
            ("WORKDIR /app", "WORKDIR /ours"),
        ],
    }
    for path, swaps in edits.items():
        for old, new in swaps:
            swap(path, old, new)(project)
    after = update(project, hardened.new)
    assert conflicts(after) == []
    for path, swaps in edits.items():
        assert all(new.encode() in after[path] for _, new in swaps), path
        assert b"ardened" in after[path]


def test_a_file_that_the_owner_renamed_is_the_owner_s(hardened: Releases, service: Service) -> None:
    """A shared and a chassis file under new names stay as they are, and the old ones do not come back."""
    project = service(hardened.path, hardened.old[0])
    moves = {"README.md": "docs/readme.md", "src/my_service/chassis/errors.py": "src/my_service/chassis/our_errors.py"}
    for old, new in moves.items():
        (project / old).rename(project / new)
    before = files(project)
    after = update(project, hardened.new)
    assert conflicts(after) == []
    assert not moves.keys() & after.keys()
    assert all(after[new] == before[new] for new in moves.values())


def test_a_formatter_with_another_line_length_conflicts_with_no_update(
    hardened: Releases, service: Service, tool: Callable[[str], str]
) -> None:
    """`make format` in the owner's style does not touch the chassis, so that an update still replaces it."""
    project = service(hardened.path, hardened.old[0])
    before = files(project)
    swap("pyproject.toml", "line-length = 120", "line-length = 60")(project)
    for command in (["check", "--fix-only"], ["format"]):
        assert run(tool("ruff"), *command, "--quiet", ".", cwd=project).returncode == 0
    formatted = files(project)
    assert formatted["src/my_service/notes/router.py"] != before["src/my_service/notes/router.py"]
    chassis = {path for path in before if "/chassis/" in path or path.startswith("tests/servers/")}
    assert [path for path in chassis if formatted[path] != before[path]] == []
    after = update(project, hardened.new)
    assert conflicts(after) == []
    assert b"line-length = 60" in after["pyproject.toml"]
    assert b"Hardened. " in after["src/my_service/chassis/errors.py"]


def test_a_merge_conflict_in_the_answers_stops_until_it_is_resolved(
    hardened: Releases, service: Service, drift: Callable[[Path], tuple[int, str]]
) -> None:
    """After a merge of branches at two releases, the answers keep the newer one and the values of the merged files."""
    project, old = service(hardened.path, hardened.old[0]), hardened.old[0]
    update(project, hardened.new, python_version="3.14")
    newer = f"_commit: {hardened.new}"
    both = f"<<<<<<< HEAD\n_commit: {old}\n=======\n{newer}\n>>>>>>> theirs"
    swap(".copier-answers.yml", newer, both)(project)
    commit(project, "A merge with its markers")
    before = files(project)
    status, said = drift(project)
    assert status != 0
    assert "must have one line _commit" in said
    assert copier("update", "--defaults", cwd=project).returncode != 0
    assert files(project) == before
    swap(".copier-answers.yml", both, newer)(project)
    assert drift(project) == (0, f"The chassis is as the template renders it at {hardened.new}.\n")


def test_two_edits_of_one_line_are_marked(hardened: Releases, service: Service) -> None:
    """Where both changed a line, or two neighbours, both texts stay between markers and git calls it unmerged."""
    project = service(hardened.path, hardened.old[0])
    swap("README.md", "# My Service", "# Our Service")(project)
    swap("pyproject.toml", '    "structlog', '    "boto3>=1",\n    "structlog')(project)
    after = update(project, hardened.new)
    assert conflicts(after) == ["README.md", "pyproject.toml"]
    assert all(text in after["README.md"] for text in (b"# Our Service\n", b"# My Service, hardened\n"))
    assert all(text in after["pyproject.toml"] for text in (b'    "boto3>=1",\n', b'    "anyio>=4.9",\n'))
    unmerged = git(project, "diff", "--name-only", "--diff-filter=U")
    assert unmerged.split() == ["README.md", "pyproject.toml"]


def test_the_command_line_needs_no_trust(hardened: Releases, tmp_path: Path) -> None:
    """`copier copy` and `copier update` run without --trust, and the update names no step that would need it."""
    version = f"--vcs-ref={hardened.old[0]}"
    few = [f"--data={question}=[]" for question in ("features", "monitoring", "deployment")]
    copied = copier("copy", "--defaults", version, *few, str(hardened.path), "service", cwd=tmp_path)
    assert copied.returncode == 0, copied.stderr
    commit(tmp_path / "service", "Rendered")
    updated = copier("update", "--defaults", "service", cwd=tmp_path)
    assert updated.returncode == 0, updated.stderr
    answers = read_yaml(tmp_path / "service/.copier-answers.yml")
    assert (answers["_commit"], answers["_src_path"]) == (hardened.new, str(hardened.path))
    assert "Running task" not in copied.stderr + updated.stderr
    assert (tmp_path / "service/src/my_service/chassis/tarpit.py").exists()


def test_uncommitted_work_stops_an_update(hardened: Releases, service: Service, tmp_path: Path) -> None:
    """An update of a service with uncommitted work is refused in a sentence, before anything is written."""
    project = service(hardened.path, hardened.old[0])
    (project / "README.md").write_text("not committed\n", encoding="utf-8")
    before = files(project)
    refused = copier("update", "--defaults", "service", cwd=tmp_path)
    assert refused.returncode != 0
    assert "Please commit or stash" in refused.stderr
    assert files(project) == before


def test_a_template_without_tags_still_updates(hardened: Releases, tmp_path: Path) -> None:
    """Where no tag travelled with the repository, a service is rendered from and updated to the newest commit."""
    template = tmp_path / "template"
    git(tmp_path, "clone", "--quiet", "--no-tags", str(hardened.path), str(template))
    newest = git(template, "rev-parse", "HEAD").strip()
    git(template, "checkout", "--quiet", "--detach", "HEAD~1")
    run_copy(str(template), tmp_path / "service", **QUIETLY)
    assert read_yaml(tmp_path / "service/.copier-answers.yml")["_commit"] in git(template, "rev-parse", "HEAD")
    git(template, "checkout", "--quiet", newest)
    after = update(tmp_path / "service", "HEAD")
    assert conflicts(after) == []
    assert "src/my_service/chassis/tarpit.py" in after


# Another answer, what then goes, what comes, and what of the owner's waits for a person.
CHANGES: dict[str, tuple[Answers, list[str], list[str], dict[str, bytes]]] = {
    "framework": (
        {"framework": "flask"},
        ["chassis/web/fastapi.py", "chassis/database/asyncio.py"],
        ["chassis/web/flask.py", "chassis/web/threads.py", "chassis/database/sync.py"],
        {"main.py": b"from fastapi import"},
    ),
    "no database": (
        {"database": "none", "domain_storage": "memory"},
        ["chassis/database/__init__.py", "../../migrations/env.py"],
        [],
        {"notes/repository.py": b"chassis.database", "../../migrations/versions/0001_notes.py": b"notes"},
    ),
    "another database": (
        {"database": "postgresql"},
        ["chassis/database/sqlite.py", "../../tests/chassis/test_sqlite.py"],
        ["chassis/database/postgresql.py", "chassis/database/pool.py"],
        {},
    ),
    "a database": ({"database": "sqlite"}, [], ["chassis/database/__init__.py", "../../migrations/env.py"], {}),
    "another cache": (
        {"cache": "redis"},
        ["chassis/rate_limit/memory.py", "../../docs/options/memory.md"],
        ["chassis/rate_limit/redis.py", "chassis/redis.py", "../../tests/servers/redis.py"],
        {},
    ),
    "no features": (
        {"features": []},
        ["chassis/backup", "chassis/deploy_check", "chassis/http_client", "chassis/rate_limit", "../../docs/backup.md"],
        [],
        {},
    ),
    "more features": (
        {"features": values()["features"]},
        [],
        ["chassis/cache/memory.py", "chassis/data_files/__init__.py", "../../tests/chassis/test_cache.py"],
        {},
    ),
    "another target": (
        {"deployment": ["compose", "kubernetes"]},
        [],
        ["../../deploy/kubernetes/base/deployment.yaml", "../../deploy/kubernetes/overlays/production/settings.env"],
        {},
    ),
    "AWS": (
        {"database": "postgresql", "deployment": ["compose", "aws"]},
        [],
        ["../../deploy/aws/service/database.tf", "../../deploy/aws/deploy.sh", "../../deploy/aws/production/main.tf"],
        {},
    ),
    "no CI": ({"ci": "none"}, [".github/workflows/chassis.yml"], [], {}),
}
# The answers before the change, if they are not the defaults. AWS needs a database server.
BEFORE: dict[str, Answers] = {"a database": {"database": "none"}, "AWS": {"database": "postgresql"}}


@pytest.mark.parametrize("change", CHANGES)
def test_another_answer_changes_all_but_the_code(
    change: str, releases: Releases, service: Service, services: Services
) -> None:
    """With another answer, all but the owner's files become what a fresh render is. The owner's stay, new ones come."""
    answers, gone, come, waiting = CHANGES[change]
    project = service(releases.path, releases.new, BEFORE.get(change, DEFAULTS))
    before, package = files(project), project / "src/my_service"
    after = update(project, releases.new, **answers)
    after_all = read_yaml(project / ".copier-answers.yml")
    recorded = {name: after_all[name] for name in ("domain_storage", "features")}
    fresh = files(services(releases.path, releases.new, {**recorded, **answers}))
    assert differences(territory(after, yours=False), territory(fresh, yours=False)) == []
    mine = territory(before, yours=True)
    added = {path: text for path, text in territory(after, yours=True).items() if path not in mine}
    assert differences(territory(after, yours=True), mine | added) == []
    assert differences(added, {path: fresh[path] for path in added}) == []
    assert [path for path in gone if (package / path).exists()] == []
    assert [path for path in come if not (package / path).exists()] == []
    assert all(text in (package / path).read_bytes() for path, text in waiting.items())


def test_a_workflow_of_the_owner_that_calls_a_missing_one_is_named(
    releases: Releases, service: Service, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without CI, the workflow of the owner stays. Until it is deleted, each update says what is left to do."""
    project = service(releases.path, releases.new)
    workflow = ".github/workflows/ci.yml"
    for answers in ({"ci": "none"}, {}):
        commit(project, "The owner's work")
        run_update(project, answers, vcs_ref=releases.new, **QUIETLY | {"quiet": False})
        said = capfd.readouterr().err
        assert f"{workflow} is yours and stays. Delete it, or its job that calls chassis.yml" in said
        assert (project / workflow).exists()
    (project / workflow).unlink()
    commit(project, "No workflow")
    run_update(project, vcs_ref=releases.new, **QUIETLY | {"quiet": False})
    said = capfd.readouterr().err
    assert "is up to date" in said
    assert workflow not in said


def test_a_database_is_not_taken_from_code_that_stores_in_it(releases: Releases, service: Service) -> None:
    """Without a word that the owner's domains were ported, the answer `none` is refused, and nothing is written."""
    project = service(releases.path, releases.new)
    before = files(project)
    with pytest.raises(ValueError, match="keep a database: your domains store in it"):
        update(project, releases.new, database="none")
    assert files(project) == before
    update(project, releases.new, database="none", domain_storage="memory")
    assert not (project / "src/my_service/chassis/database").exists()


@pytest.mark.parametrize("change", ["framework", "no features", "more features"])
def test_another_answer_keeps_what_the_owner_wrote(change: str, releases: Releases, service: Service) -> None:
    """A service that its owner developed gets other answers without a conflict and without a lost line."""
    owner = develop(service(releases.path, releases.new))
    after = update(owner.service, releases.new, **CHANGES[change][0])
    assert owner.lost() == []
    assert conflicts(after) == []


def test_the_answers_file_renders_the_service_again(releases: Releases, services: Services, tmp_path: Path) -> None:
    """The answers file alone renders the service once more, beside it: there lie the owner's files of new answers."""
    project = services(releases.path, releases.new, STACKS["flask-sqlite-redis"])
    answers = f"--data-file={project / '.copier-answers.yml'}"
    result = copier("copy", "--defaults", answers, f"--vcs-ref={releases.new}", releases.path, "beside", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert differences(files(tmp_path / "beside"), files(project)) == []


def test_a_recopy_renders_everything_anew(releases: Releases, service: Service, services: Services) -> None:
    """`copier recopy` renders most of the owner's files again; further files stay, and git has the rest."""
    owner = develop(service(releases.path, releases.new))
    commit(owner.service, "The owner's work")
    run_recopy(owner.service, vcs_ref=releases.new, **QUIETLY)
    after, fresh = files(owner.service), files(services(releases.path, releases.new))
    # A file that an owner may have before its option is never rendered over.
    assert differences({path: after[path] for path in fresh}, fresh) == ["compose.override.yaml"]
    assert f"{owner.package}/orders/router.py" in after
    git(owner.service, "checkout", "--", owner.package)
    assert "orders_page_size" in (owner.service / owner.package / "settings.py").read_text(encoding="utf-8")


def offered(releases: Releases, version: str, answers: Answers) -> dict[str, Any]:
    """Return the answers that a release accepts: without questions and values that came later."""
    found: dict[str, Any] = {}
    for question, answer in answers.items():
        if isinstance(answer, list):
            rows = git(releases.path, "ls-tree", "--name-only", version, f"options/{question}.yml")
            text = git(releases.path, "show", f"{version}:{rows}") if rows else ""
            if text:
                found[question] = [value for value in answer if re.search(rf"^    {value}:$", text, re.MULTILINE)]
        else:
            found[question] = answer
    return found


@pytest.mark.stacks
@pytest.mark.xdist_group("examples")
@pytest.mark.parametrize(
    "name",
    [
        name if name in UPDATED_EXAMPLES else pytest.param(name, marks=pytest.mark.upgrades)
        for name in example_services.EXAMPLES
    ],
)
def test_an_example_passes_its_tests_after_every_update(
    name: str, releases: Releases, installed: Path, tmp_path: Path
) -> None:
    """From the first release with its features on, updates leave no conflict and no file of the owner changed.

    Later releases add what the example wants and the first one lacked, such as Kubernetes.
    """
    wanted = example_services.answers(name)
    versions = [*releases.old, releases.new]
    accepted = {version: offered(releases, version, wanted) for version in versions}
    needed = ("features", "monitoring")  # the code imports what these bring
    first, *later = [
        version for version in versions if all(accepted[version].get(name) == wanted[name] for name in needed)
    ]
    service = tmp_path / name
    run_copy(str(releases.path), service, accepted[first], vcs_ref=first, **QUIETLY)
    python = connect(service, installed)
    example_services.build(name, service)
    (domain,) = {Path(path).parent.name for path in example_services.overlay(name) if re.match("tests/.+/", path)}
    own = (python, "-m", "pytest", "-q", f"tests/{domain}")
    if first.removeprefix("v") in recorded():  # the last commit is tested like the working tree
        before = run(*own, f"--ignore=tests/{domain}/test_scenario.py", cwd=service)
        assert before.returncode == 0, before.stdout
    for version in later:
        assert conflicts(update(service, version, **accepted[version])) == []
    for path in example_services.overlay(name):
        assert (service / path).read_bytes() == (example_services.FOLDER / name / "service" / path).read_bytes(), path
    after = run(*own, cwd=service)
    assert after.returncode == 0, after.stdout
