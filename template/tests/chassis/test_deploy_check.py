"""The command `deploy-check`: each check fails on the fault that it names, and the exit code shows the result."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr

from ..package import PACKAGE, ROOT, module, program

main = module("chassis.cli").main
types = module("chassis.deploy_check")
command = module("chassis.deploy_check.command")

PRODUCTION = {
    "ENVIRONMENT": "production",
    "ALLOWED_HOSTS": "api.example.com",
    "TRUSTED_PROXIES": "10.0.0.0/8",
    "CORS_ALLOWED_ORIGINS": "https://app.example.com",
    "PYTHONPATH": str(ROOT / "src"),
}
if "backup_key" in program().settings.model_fields:
    PRODUCTION["BACKUP_KEY"] = module("chassis.backup.archive").new_key()
if "otel_exporter_otlp_endpoint" in program().settings.model_fields:
    PRODUCTION["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
if "sentry_dsn" in program().settings.model_fields:
    PRODUCTION["SENTRY_DSN"] = "http://key@127.0.0.1:9/1"
if "jwt_jwks_url" in program().settings.model_fields:
    PRODUCTION |= {"JWT_ISSUER": "https://id.example.com/", "JWT_AUDIENCE": "orders"}
    PRODUCTION["JWT_JWKS_URL"] = "https://id.example.com/jwks.json"
CHECKS = {check.name: check for check in command.CHECKS}
CONTAINER = {"user", "read-only", "container-limits"}

Run = Callable[..., Any]


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one check of a service with valid production settings."""
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)

    def run(name: str, env_file: Path | None = None, **changes: Any) -> Any:
        context = command.read_context(changes.pop("program", program()), env_file)
        return command.run(CHECKS[name], replace(context, **changes))

    return run


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """The files that the checks of the container read, as in a well configured container."""
    files = {
        ".dockerenv": "",
        "proc/self/status": "Name:\tpython\nUid:\t1000\t1000\t1000\t1000\n",
        "proc/self/mounts": "overlay / overlay ro,relatime 0 0\ntmpfs /tmp tmpfs rw 0 0\n",
        "sys/fs/cgroup/memory.max": "268435456\n",
        "sys/fs/cgroup/cpu.max": "50000 100000\n",
    }
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text, encoding="utf-8")
    return tmp_path / "root"


class Secretive(program().settings):  # type: ignore[misc]
    """Settings with a secret."""

    bank_key: SecretStr = Field(SecretStr(""), description="Ask the bank for one.")


@pytest.mark.parametrize(
    ("name", "variable", "value"),
    [
        ("settings", "ENVIRONMENT", "staging"),
        ("settings", "PORT", "http"),
        ("settings", "DEBUG", "true"),
        ("settings", "ALLOWED_HOSTS", "*"),
        ("settings", "CORS_ALLOWED_ORIGINS", "*"),
        ("warnings", "TRUSTED_PROXIES", ""),
        ("warnings", "REQUEST_TIMEOUT_SECONDS", "3600"),
        ("warnings", "MAX_REQUEST_BODY_BYTES", "10000000000"),
        ("warnings", "RATE_LIMIT_ENABLED", "false"),
        ("warnings", "BACKUP_KEY", ""),
        ("settings", "API_DOCS_ENABLED", "true"),
    ],
)
def test_check_of_a_setting_with_a_bad_value_fails(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, variable: str, value: str
) -> None:
    """The check passes with a good value. For a bad one the evidence names the variable."""
    if variable.lower() not in program().settings.model_fields:
        pytest.skip(f"this service has no setting {variable}")
    assert run(name).outcome == "passed"
    monkeypatch.setenv(variable, value)
    result = run(name)
    assert result.outcome == "failed"
    assert variable in result.evidence


def test_check_of_a_setting_in_another_environment_uses_the_rules_of_production(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DEBUG is valid in staging, but the check applies the rules of production."""
    monkeypatch.setenv("ENVIRONMENT", "staging")
    monkeypatch.setenv("DEBUG", "true")
    assert "DEBUG: must not be on in production" in run("settings").evidence


@pytest.mark.parametrize(
    ("value", "evidence"),
    [
        ("change-me", "BANK_KEY has the value of an example"),
        ("from-the-example-file", "BANK_KEY has the value of an example"),
        ("postgresql://user:changeme@db.example.com/orders", "BANK_KEY has the value of an example"),
        ("short", "BANK_KEY has fewer than 8 characters"),
    ],
)
def test_secrets_check_with_a_known_value_fails(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, value: str, evidence: str
) -> None:
    """A value that can be guessed, or read in the repository, is not a secret. The evidence does not repeat it."""
    (folder / ".env.example").write_text("BANK_KEY=from-the-example-file\n", encoding="utf-8")
    ours = replace(program(), settings=Secretive)
    monkeypatch.setenv("BANK_KEY", "postgresql://user:bJ2nT8xw@db.example.com/orders")
    assert run("secrets", program=ours).outcome == "passed"
    monkeypatch.setenv("BANK_KEY", value)
    assert run("secrets", program=ours).evidence == evidence


def test_secrets_check_with_a_file_that_others_can_read_fails(run: Run, folder: Path) -> None:
    """Other users of the machine must not be able to read secrets, but the service's group may."""
    env_file = folder / ".env.production"
    env_file.touch()
    env_file.chmod(0o640)
    assert run("secrets", env_file).outcome == "passed"
    env_file.chmod(0o644)
    assert ".env.production" in run("secrets", env_file).evidence


@pytest.mark.parametrize(
    ("name", "file", "old", "new"),
    [
        ("user", "proc/self/status", "1000", "0"),
        ("read-only", "proc/self/mounts", "overlay ro", "overlay rw"),
        ("container-limits", "sys/fs/cgroup/memory.max", "268435456", "max"),
        ("container-limits", "sys/fs/cgroup/cpu.max", "50000", "max"),
    ],
)
def test_check_of_a_container_without_a_protection_fails(
    run: Run, container: Path, name: str, file: str, old: str, new: str
) -> None:
    """With the protection the check passes. Outside a container, or if the file is unreadable, it is not checked."""
    assert run(name, root=container).outcome == "passed"
    path = container / file
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    assert run(name, root=container).outcome == "failed"
    path.unlink()
    assert run(name, root=container).evidence == f"cannot read {path}"
    (container / ".dockerenv").unlink()
    assert run(name, root=container).evidence == "not in a container; run deploy-check in the image"


def test_deploy_check_of_a_service_that_is_ready_passes(
    run: Run, migrated: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands of features really run. Without a failure the exit code is 0."""
    # The machine of the tests may be a container that is not protected.
    monkeypatch.setattr(command, "CHECKS", [CHECKS[name] for name in CHECKS if name not in CONTAINER])
    code = main(program(), ["deploy-check"])
    output = capsys.readouterr().out
    assert code == 0, output
    assert "FAILED" not in output
    assert ("migrations: " in output) == (ROOT / "migrations").is_dir()


def test_command_check_gives_the_last_line_of_the_command(run: Run) -> None:
    """A feature's command prints its error in the last line on stderr."""
    context = command.read_context(program(), None)
    valid = command.command("check")(context)
    assert valid == types.CheckResult("passed", "The settings are valid for ENVIRONMENT=production.")
    failed = command.command("check")(replace(context, variables={**context.variables, "DEBUG": "true"}))
    assert failed.outcome == "failed"
    assert "DEBUG: " in failed.evidence


@pytest.mark.parametrize("check", [command.warnings, command.command("check")])
def test_check_that_needs_valid_settings_is_not_checked_without_them(
    run: Run, monkeypatch: pytest.MonkeyPatch, check: Callable[[Any], Any]
) -> None:
    """Only the check `settings` fails: the others would repeat its problem, with a remedy that does not solve it."""
    monkeypatch.setenv("PORT", "http")
    result = check(command.read_context(program(), None))
    assert result == types.CheckResult("not_checked", "the settings are invalid")


def test_migrations_check_of_an_old_database_fails(run: Run, folder: Path) -> None:
    """The database lacks the schema of this release."""
    if not (ROOT / "migrations").is_dir():
        pytest.skip("this service has no database")
    (folder / "migrations").symlink_to(ROOT / "migrations")
    result = command.run(command.OF_COMMANDS["migrate"], command.read_context(program(), None))
    assert result.outcome == "failed"


def test_env_file_takes_precedence_over_a_developers_env(run: Run, folder: Path) -> None:
    """The processes that checks start also read .env, and must not pick up DEBUG from there."""
    (folder / ".env").write_text("DEBUG=true\nUNKNOWN=1\n", encoding="utf-8")
    env_file = folder / ".env.production"
    env_file.write_text("LOG_LEVEL=WARNING\n", encoding="utf-8")
    variables = command.read_context(program(), env_file).variables
    assert (variables["DEBUG"], variables["LOG_LEVEL"]) == ("false", "WARNING")
    assert "UNKNOWN" not in variables


@pytest.fixture
def few(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the checks that start processes or depend on the machine."""
    elsewhere = types.DeployCheck("elsewhere", lambda _context: types.CheckResult("not_checked", "not here"), "go")
    monkeypatch.setattr(command, "CHECKS", [CHECKS["settings"], CHECKS["secrets"], CHECKS["warnings"], elsewhere])
    monkeypatch.setattr(command, "OF_COMMANDS", {})


def test_deploy_check_with_a_failure_of_a_required_check_exits_with_1(
    few: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output shows evidence for each check, a remedy for each failure, and a score."""
    monkeypatch.setenv("DEBUG", "true")
    assert main(program(), ["deploy-check"]) == 1
    output = capsys.readouterr().out
    assert "FAILED      settings: DEBUG: " in output
    assert "Remedy: copy .env.production.example to .env.production and fill it in." in output
    assert "ok          secrets: " in output
    assert "not checked elsewhere: not here" in output
    assert output.endswith("Score: 1 of 2 checks passed.\n")


def test_deploy_check_with_a_failure_of_another_check_exits_with_0(
    few: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A warning only lowers the score."""
    monkeypatch.setenv("TRUSTED_PROXIES", "")
    assert main(program(), ["deploy-check"]) == 0
    assert "warning     warnings: TRUSTED_PROXIES" in capsys.readouterr().out


def test_deploy_checks_of_a_feature_run_too(few: None, capsys: pytest.CaptureFixture[str]) -> None:
    """A check that raises an exception counts as failed, and the others still run."""

    class Ledger:
        @staticmethod
        def install(_chassis: object) -> None: ...

        @staticmethod
        def deploy_checks() -> list[Any]:
            return [
                types.DeployCheck("broken", lambda _context: 1 / 0, "repair it"),
                types.DeployCheck("balanced", lambda _context: types.result_of(True, "0.00"), "call the bank"),
            ]

    ours = program()
    assert main(replace(ours, features=[*ours.features, Ledger]), ["deploy-check"]) == 1
    output = capsys.readouterr().out
    assert "broken: the check raised ZeroDivisionError" in output
    assert "balanced: 0.00" in output


def test_deploy_check_without_its_env_file_names_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt file name is reported and not treated as an empty file."""
    assert main(program(), ["deploy-check", "--env-file", ".env.prod"]) == 1
    assert ".env.prod: no such file" in capsys.readouterr().err


def test_serving_process_does_not_import_the_command() -> None:
    """The service starts without importing the checks."""
    tool = f"{PACKAGE}.chassis.deploy_check.command"
    script = f"import sys, {PACKAGE}.main, {PACKAGE}.chassis.cli; print({tool!r} in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr


def test_names_of_checks_are_unique() -> None:
    names = [check.name for check in command.all_checks(program().features, command.OF_COMMANDS)]
    assert len(set(names)) == len(names)
