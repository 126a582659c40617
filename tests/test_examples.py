"""The example services: rendered, given their owner's files, checked, started, and compared with a verification list.

The commands in the README of each example are run unchanged, except that Copier renders in this process and that the
examples share an environment. One worker runs all examples, one after another.
"""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import private_servers
import pytest
import targets
import yaml
from environments import connect
from example_services import EXAMPLES, FOLDER, answers, build, overlay
from live import ANSWER_SECONDS, Live, run, serve
from pathspec import GitIgnoreSpec
from production import produce
from questions import ROOT
from rendering import Renderer

# A README describes its example on one screen.
MAX_LINES = 30
MARKS = [pytest.mark.stacks, pytest.mark.xdist_group("examples")]


@pytest.mark.parametrize("name", EXAMPLES)
def test_overlay_has_files_of_the_owner_only(name: str, renderer: Renderer, tmp_path: Path) -> None:
    """It replaces no file of the chassis and no shared one, which would miss the changes of the template."""
    render = renderer(tmp_path / name, answers(name))
    table = {owner: GitIgnoreSpec.from_lines(patterns) for owner, patterns in render.answers["territories"].items()}
    rendered = render.files()
    paths = overlay(name)
    assert [path for path in paths if table["chassis"].match_file(path)] == []
    assert [path for path in paths if path in rendered and not table["yours"].match_file(path)] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_readme_of_an_example_is_short_and_complete(name: str) -> None:
    lines = (FOLDER / name / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_LINES
    assert "service/tests/" in "\n".join(lines)
    assert f"examples/{name}/README.md" in (ROOT / "docs/examples.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", EXAMPLES)
def test_load_scenario_of_an_example_has_a_reader(name: str) -> None:
    """The pipeline of the rendered service runs this class in production."""
    scenario = (FOLDER / name / "service/load/scenario.py").read_text(encoding="utf-8")
    assert "\nclass Reader(HttpUser):\n" in scenario


@pytest.fixture(scope="module", params=[pytest.param(name, marks=MARKS) for name in EXAMPLES])
def example(
    request: pytest.FixtureRequest, renderer: Renderer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """An example as its README builds it."""
    service = renderer(tmp_path_factory.mktemp("example") / request.param, answers(request.param)).path
    connect(service, request.getfixturevalue("installed"))
    build(request.param, service)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MYPY_CACHE_DIR", str(request.getfixturevalue("libraries_in_mypy")))
        yield service


@pytest.fixture(scope="module")
def scratch(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder to which the database of the started example belongs."""
    return tmp_path_factory.mktemp(f"{example.name}-data")


@pytest.fixture(scope="module")
def live(example: Path, scratch: Path) -> Iterator[Live]:
    """The started example, which the tests of the verification list share."""
    with serve(example, example.name, scratch, {}) as running:
        yield running


def test_example_is_linted_typed_and_passes_its_tests(example: Path) -> None:
    """Its scenario is one of its tests. Four fifths of the owner's code are covered."""
    said = run("make", "lint", "types", "test", cwd=example)
    assert re.search(r"=+ \d+ passed(, \d+ warnings?)? in", said), said  # and none is skipped
    assert "Required test coverage of 80.0% reached" in said, said


# -- the verification list ---------------------------------------------------------------------------------------------


def test_verification_health_answers(live: Live) -> None:
    """Each endpoint answers, and the report names version, environment, uptime, and the result of every check."""
    with live.client() as client:
        for path in ("/health/live", "/health/started", "/health/ready"):
            assert client.get(path).status_code == 200, path
        response = client.get("/health")
    report = response.json()
    assert (response.status_code, report["status"]) == (200, "healthy")
    assert {"version", "environment", "started_at", "uptime_seconds", "timestamp"} <= report.keys()
    for name, check in report["checks"].items():
        assert {"status", "critical", "latency_ms", "last_success", "error", "details"} <= check.keys(), name


def test_verification_logs_are_json_with_the_ids_of_the_request(live: Live) -> None:
    with live.client() as client:
        response = client.get("/no-such-path", headers={"X-Request-ID": "verified-1"})
    assert response.headers["x-request-id"] == "verified-1"
    # The entry of a request is written after its response.
    deadline = time.monotonic() + ANSWER_SECONDS
    while "verified-1" not in live.log.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    entries = [json.loads(line) for line in live.log.read_text(encoding="utf-8").splitlines()]
    assert all({"timestamp", "level", "event", "logger", "service.name"} <= entry.keys() for entry in entries)
    (mine,) = [entry for entry in entries if entry.get("request_id") == "verified-1"]
    assert mine["event"] == "request_finished"
    assert {"trace_id", "http.request.method", "url.path", "http.response.status_code", "duration_ms"} <= mine.keys()


def test_verification_error_has_an_id_and_nothing_internal(live: Live) -> None:
    with live.client() as client:
        response = client.get("/no-such-path")
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (problem["status"], problem["error_code"]) == (404, "NOT_FOUND")
    assert {"error_id", "request_id", "timestamp", "title", "detail", "errors"} <= problem.keys()
    assert "Traceback" not in response.text


def test_verification_response_has_security_headers(live: Live) -> None:
    with live.client() as client:
        headers = client.get("/no-such-path").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["referrer-policy"] == "no-referrer"
    assert not {"server", "x-powered-by"} & set(headers)


def test_verification_image_runs_as_user_1000_with_a_health_check(example: Path) -> None:
    image = (example / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (.+)$", image, re.MULTILINE)[-1] == "1000"
    assert "HEALTHCHECK" in image
    assert re.search(r"^FROM .* AS production$", image, re.MULTILINE)


def resources(service: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the cores and the memory that a container of Compose may use, and those that it is promised."""
    found = (service["deploy"]["resources"][part] for part in ("limits", "reservations"))
    return tuple((str(part["cpus"]), part["memory"]) for part in found)


def test_verification_containers_are_limited_and_backed_up(example: Path) -> None:
    """Compose and Kubernetes: read-only, no capabilities, one core and 512 MiB, and a backup every night."""
    if (example / "compose.yaml").exists():
        services = yaml.safe_load((example / "compose.yaml").read_text(encoding="utf-8"))["services"]
        app = services["app"]
        assert (app["user"], app["read_only"], app["cap_drop"]) == ("1000:1000", True, ["ALL"])
        expected = {
            "app": (("1", "512M"), ("0.5", "256M")),
            "postgresql": (("1", "512M"), ("0.25", "128M")),
            "redis": (("0.5", "256M"), ("0.1", "64M")),
        }
        for name in expected.keys() & services.keys():
            assert resources(services[name]) == expected[name], name
        assert "--daily-at" in services["backup"]["command"]
        assert all("healthcheck" in service for name, service in services.items() if name != "backup-copy")
    base = example / "deploy/kubernetes/base/deployment.yaml"
    if base.exists():
        pod = yaml.safe_load(base.read_text(encoding="utf-8"))["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 1000)
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}
        assert (example / "deploy/kubernetes/components/backup/cronjob.yaml").exists()


@pytest.mark.parametrize("example", [pytest.param("coffee", marks=MARKS)], indirect=True)
def test_verification_production_checklist_passes(example: Path, scratch: Path) -> None:
    """Every check passes that does not depend on the container of the service."""
    _code, outcomes = produce(example, example.name, private_servers.settings(example, scratch)).check()
    assert set(outcomes.values()) <= {"ok", "not checked"}, outcomes


@pytest.mark.parametrize("example", [pytest.param("coffee", marks=MARKS)], indirect=True)
def test_verification_make_restores_the_backup_of_make(example: Path, live: Live, scratch: Path) -> None:
    database = private_servers.settings(example, scratch) | {"BACKUP_DIRECTORY": str(scratch / "backups")}
    run("make", "backup", cwd=example, **database)
    (backup,) = (scratch / "backups").glob("*.tar.gz")
    said = run("make", "restore", f"FILE={backup}", "REPLACE=yes", cwd=example, **database)
    assert "restored" in said.lower(), said
    with live.client() as client:
        assert client.get("/health/ready").status_code == 200


@pytest.mark.parametrize("example", [pytest.param("insurance", marks=MARKS)], indirect=True)
def test_verification_load_test_meets_the_objectives(example: Path, live: Live, scratch: Path) -> None:
    """A busy machine may be too slow for the objective of latency."""
    run(".venv/bin/python", "-m", example.name, "import", cwd=example, **private_servers.settings(example, scratch))
    done = targets.make(example, "load", f"URL={live.url}", "RUN_TIME=3s")
    assert re.search(r"^met    availability: 100.00 % of \d+ requests succeeded", done.stdout, re.MULTILINE), done
