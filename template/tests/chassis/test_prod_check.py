"""The production checklist as a command: each row sees its fault, and the score says so."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..package import ROOT, module, program

main = module("chassis.cli").main
command = module("chassis.prod_check.command")
process = module("chassis.prod_check.process")
row = module("chassis.prod_check.row")

PRODUCTION = {
    "ENVIRONMENT": "production",
    "ALLOWED_HOSTS": "api.example.com",
    "TRUSTED_PROXIES": "10.0.0.0/8",
    "CORS_ALLOWED_ORIGINS": "https://app.example.com",
}

Judge = Callable[[str], dict[str, Any]]


@pytest.fixture
def judge(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Judge:
    """Try one row of a service in good order, and return what it found."""
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)

    def run(name: str) -> dict[str, Any]:
        code = main(program(), ["prod-check", "--json", "--row", name])
        report = json.loads(capsys.readouterr().out)
        (found,) = report["rows"]
        assert code == (0 if report["score"] == 100 else 1)
        assert isinstance(found, dict)
        return found

    return run


@pytest.fixture
def checkout(folder: Path) -> Iterator[Path]:
    """A repository with the files of this service that the checklist reads."""
    for name in ("Dockerfile", "compose.yaml", "pyproject.toml"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, folder)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    return folder


def add(folder: Path, name: str, text: str) -> None:
    """Put a file into the repository."""
    (folder / name).write_text(text, encoding="utf-8")
    subprocess.run(["git", "add", "--force", name], cwd=folder, check=True)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_service_that_does_not_answer_is_a_finding() -> None:
    """The report is written all the same."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        with httpx.Client(base_url=f"http://127.0.0.1:{taken.getsockname()[1]}") as client:
            assert process.faults_of(client) == ["does not answer (ConnectError)"]


@pytest.mark.parametrize(
    ("name", "variable", "value"),
    [
        ("settings", "ENVIRONMENT", "staging"),
        ("settings", "PORT", "http"),
        ("debug", "DEBUG", "true"),
        ("hosts", "ALLOWED_HOSTS", "*"),
        ("cors", "CORS_ALLOWED_ORIGINS", "*"),
        ("proxies", "TRUSTED_PROXIES", ""),
        ("request-limits", "REQUEST_TIMEOUT_SECONDS", "3600"),
        ("request-limits", "RATE_LIMIT_ENABLED", "false"),
        ("request-limits", "MAX_REQUEST_BODY_BYTES", "10000000000"),
    ],
)
def test_a_setting_that_production_must_not_have_fails_its_row(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, name: str, variable: str, value: str
) -> None:
    """The row passes, fails with the value as evidence once it is wrong, and says what to do."""
    assert judge(name)["outcome"] == "passed"
    monkeypatch.setenv(variable, value)
    found = judge(name)
    assert found["outcome"] == "failed"
    assert variable in found["evidence"]
    assert found["remedy"]


def test_a_private_file_in_git_fails(judge: Judge, checkout: Path) -> None:
    """Settings with secrets are not for the repository, their empty form is."""
    add(checkout, ".env.production.example", "ENVIRONMENT=production")
    assert judge("secrets")["outcome"] == "passed"
    add(checkout, ".env.production", "ENVIRONMENT=production")
    assert judge("secrets")["evidence"] == "git knows .env.production"


def test_settings_that_others_can_read_fail(judge: Judge, checkout: Path) -> None:
    """On a machine with several users, secrets are their owner's alone."""
    form = checkout / ".env"
    form.touch(0o600)
    assert judge("private-settings")["outcome"] == "passed"
    form.chmod(0o644)
    assert judge("private-settings")["evidence"] == ".env can be read by others"


def test_dependencies_that_are_not_locked_fail(judge: Judge, checkout: Path) -> None:
    """What was tested is what is installed only with a lock file in the repository."""
    assert judge("lock")["outcome"] == "failed"
    add(checkout, "uv.lock", "version = 1")
    assert judge("lock")["outcome"] == "passed"


def test_tests_that_were_not_run_on_this_code_fail(judge: Judge, checkout: Path) -> None:
    """Coverage is that of the code as it is, not of last week's."""
    assert judge("coverage")["evidence"] == "the tests have not been run here"
    (checkout / ".coverage").touch()
    (checkout / "src").mkdir()
    (checkout / "src" / "newer.py").touch()
    os.utime(checkout / ".coverage", (0, 0))
    assert judge("coverage")["evidence"] == "src/newer.py is newer than the last run of the tests"


@pytest.mark.parametrize(
    ("name", "file", "old", "new"),
    [
        ("image-user", "Dockerfile", "USER 1000", "USER root"),
        ("image-user", "Dockerfile", "USER 1000", ""),
        ("probes", "Dockerfile", "/health/live", "/health"),
        ("container-limits", "compose.yaml", "limits:", "wishes:"),
        ("grace", "compose.yaml", "stop_grace_period: 60s", "stop_grace_period: 10s"),
    ],
)
def test_a_container_without_a_bound_fails(
    judge: Judge, checkout: Path, name: str, file: str, old: str, new: str
) -> None:
    """No root, limits, probes and time to stop are read where they are said."""
    if not (checkout / file).is_file():
        pytest.skip(f"this service has no {file}")
    assert judge(name)["outcome"] == "passed"
    edit(checkout / file, old, new)
    assert judge(name)["outcome"] == "failed"


def test_a_service_that_does_not_start_fails_with_its_last_words(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service is started for real; what it said before it ended is the evidence."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("STARTUP_TIMEOUT_SECONDS", "60")
    assert "ready after" in judge("service")["evidence"]
    monkeypatch.setenv("LOG_FILE", "/dev/null/no/such/folder")
    assert judge("service")["outcome"] == "failed"


@pytest.mark.parametrize(
    ("dependencies", "outcome"),
    [
        ([{"name": "a", "version": "1", "vulns": []}, {"name": "ours", "skip_reason": "not on the index"}], "passed"),
        ([{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-2026-1"}]}], "failed"),
        ([{"name": "a", "skip_reason": "not on the index"}], "not_checked"),
    ],
)
def test_an_audit_passes_only_with_answers(dependencies: list[Any], outcome: str) -> None:
    """A hole fails, and a service that knows none of the dependencies has not audited anything."""
    audit = module("chassis.prod_check.repository").judge_audit
    assert audit({"dependencies": dependencies}).outcome == outcome


def test_the_score_is_by_weight_over_what_was_checked() -> None:
    """Rows that cannot be checked count neither for nor against, and the score is rounded down."""

    def found(weight: int, outcome: str) -> Any:
        return row.Row("name", weight, "claim", "remedy", None), row.Finding(outcome, "evidence")

    assert command.Report([found(2, "passed"), found(1, "failed"), found(7, "not_checked")]).score == 66
    assert command.Report([found(7, "not_checked")]).score == 0


def test_the_weights_of_all_rows_are_a_hundred_at_most() -> None:
    """A weight is a share of a hundred, so that owners can tell what a row is worth."""
    rows = command.rows_of(program().features)
    assert len({one.name for one in rows}) == len(rows)
    assert 80 <= sum(one.weight for one in rows) <= 100


def test_a_feature_of_yours_adds_a_row(judge: Judge) -> None:
    """A row that breaks does not hold, and the others are tried all the same."""

    class Broken:
        @staticmethod
        def install(service: object) -> None: ...

        @staticmethod
        def production_rows() -> list[Any]:
            return [row.Row("broken", 5, "claim", "remedy", lambda subject: 1 / 0)]

    ours = program()
    ours = replace(ours, features=[*ours.features, Broken])
    assert main(ours, ["prod-check", "--row", "broken", "--row", "hosts"]) == 1
    assert main(ours, ["prod-check", "--row", "broken", "--row", "hosts", "--minimum", "50"]) == 0


def test_the_text_has_evidence_for_every_row_and_a_remedy_for_each_fault(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person reads what was seen, what to do, and the score."""
    monkeypatch.setenv("DEBUG", "true")
    assert main(program(), ["prod-check", "--row", "debug", "--row", "hosts"]) == 1
    text = capsys.readouterr().out
    assert "ALLOWED_HOSTS" in text
    assert "set DEBUG=false" in text
    assert text.endswith("Score: 50 of 100\n")


def test_a_file_of_settings_that_is_not_there_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt file is not taken for an empty one."""
    assert main(program(), ["prod-check", "--env-file", ".env.prod"]) == 1
    assert "There is no file .env.prod" in capsys.readouterr().err


def test_check_warns_of_what_valid_settings_lack(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check` passes, and names on the side what production would miss."""
    monkeypatch.setenv("TRUSTED_PROXIES", "")
    assert main(program(), ["check"]) == 0
    assert "TRUSTED_PROXIES" in capsys.readouterr().err
