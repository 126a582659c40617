"""Every deployment target keeps one contract: what it sets, probes, limits and protects."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployments import Target, read
from environments import connect
from live import run
from production import filled_in
from questions import metadata, values
from rendering import Render, Renderer

TARGETS = values()["deployment"]
PATHS = {"live": "/health/live", "started": "/health/started", "ready": "/health/ready"}
PINNED = re.compile(r"[a-z/]+:[\w.-]+@sha256:[0-9a-f]{64}")
# One service for each database, with everything else.
SERVICES: dict[str, dict[str, Any]] = {
    "fastapi-postgresql": {"framework": "fastapi", "database": "postgresql", "cache": "redis"},
    "flask-mysql": {"framework": "flask", "database": "mysql", "cache": "redis"},
    "flask-sqlite": {"framework": "flask", "database": "sqlite"},
    "fastapi-duckdb": {"framework": "fastapi", "database": "duckdb"},
    "fastapi-none": {"framework": "fastapi", "database": "none", "features": ["rate-limit"]},
}


@pytest.fixture(params=TARGETS)
def targets(request: pytest.FixtureRequest, renders: list[Render]) -> list[tuple[Render, Target]]:
    """Every render of the matrix that is deployed to a target, and what the target sets on it."""
    chosen = [render for render in renders if request.param in render.answers["deployment"]]
    return [(render, read(request.param, render.path)) for render in chosen]


def known(service: Path) -> dict[str, str]:
    """Every setting that the service reads, with its default."""
    text = (service / ".env.example").read_text(encoding="utf-8")
    return dict(re.findall(r"^(?:# ?)?([A-Z][A-Z0-9_]*)=(.*)$", text, re.MULTILINE))


def test_a_target_sets_only_what_the_service_reads(targets: list[tuple[Render, Target]]) -> None:
    """A misspelt setting would be ignored without a word."""
    for render, target in targets:
        assert target.settings.keys() - known(render.path) == set(), render.answers


def test_a_target_probes_each_path_for_its_own_purpose(targets: list[tuple[Render, Target]]) -> None:
    """Liveness, startup and readiness have one path each. `/health` is for people, and no probe requests it."""
    for render, target in targets:
        assert "live" in target.probes, render.answers
        assert target.probes.items() <= PATHS.items(), render.answers


def test_a_target_waits_longer_than_the_service_takes_to_stop(targets: list[tuple[Render, Target]]) -> None:
    """Requests in flight are not lost: the grace period exceeds the drain and the timeout of the shutdown together."""
    for render, target in targets:
        settings = known(render.path) | filled_in(render.path) | dict(target.settings)
        stop = float(settings["SHUTDOWN_DRAIN_SECONDS"]) + float(settings["SHUTDOWN_TIMEOUT_SECONDS"])
        assert target.grace_seconds > stop, render.answers


def test_a_target_protects_the_container(targets: list[tuple[Render, Target]]) -> None:
    """The container has no privilege, writes only where it must, and has limits and reservations."""
    for render, target in targets:
        assert (target.user, target.read_only) == ("1000", True), render.answers
        assert target.dropped_capabilities == {"ALL"}, render.answers
        assert target.limits.keys() == target.reservations.keys() == {"cpu", "memory"}, render.answers


def test_a_target_writes_logs_to_stdout(targets: list[tuple[Render, Target]]) -> None:
    """The platform collects them. A file would fill the disk of the container."""
    for render, target in targets:
        assert not (known(render.path) | dict(target.settings))["LOG_FILE"], render.answers


def test_a_target_migrates_where_there_is_a_schema(targets: list[tuple[Render, Target]]) -> None:
    """A release migrates before it gets traffic."""
    for render, target in targets:
        assert ("migrate" in target.migration) == (render.answers["storage"] == "sql"), render.answers


@pytest.fixture(params=SERVICES)
def deployed(request: pytest.FixtureRequest, renderer: Renderer, installed: Path, tmp_path: Path) -> Render:
    """A service of each database with every target that can have it, installed."""
    answers = SERVICES[request.param]
    file = metadata("database")[answers["database"]]["file"]
    targets = [name for name in TARGETS if name != "aws" or not file]
    service = renderer(tmp_path / "service", {**answers, "deployment": targets})
    connect(service.path, installed)
    return service


@pytest.mark.stacks
def test_the_settings_of_a_target_are_valid(deployed: Render) -> None:
    """`check` accepts exactly what each target sets, so nothing required is missing."""
    service, package = deployed.path, deployed.answers["package_name"]
    for name in deployed.answers["deployment"]:
        settings = read(name, service).settings
        assert settings["ENVIRONMENT"] == "production"
        run("env", "--ignore-environment", *(f"{key}={value}" for key, value in settings.items()),
            str(service / ".venv/bin/python"), "-m", package, "check", cwd=service / "src")  # fmt: skip


def test_images_of_production_with_compose_are_pinned_by_digest(renders: list[Render]) -> None:
    """A tag can change its image. The image of the service is built or pulled for each deployment."""
    for render in renders:
        for path in (render.path / name for name in ("compose.yaml", "compose.monitoring.yaml")):
            services = yaml.safe_load(path.read_text(encoding="utf-8"))["services"] if path.exists() else {}
            images = {row["image"] for row in services.values() if "image" in row and "$" not in row["image"]}
            assert not [image for image in images if not PINNED.fullmatch(image)], render.answers
