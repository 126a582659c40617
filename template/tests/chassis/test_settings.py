"""Settings: typed, validated once at start, with all problems in one report."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr

from ..package import PACKAGE, environment, module, program
from .conftest import settings_for_tests
from .process import PATIENCE_SECONDS, SOURCES

chassis_settings = module("chassis.settings")
cli = module("chassis.cli")

# The settings that a production service needs.
PRODUCTION = {"environment": "production", "allowed_hosts": "api.example.com"}


class Demanding(module("chassis.features").ChassisSettings):
    """The settings of an owner"""

    api_key: SecretStr = Field(description="Make one with `openssl rand -hex 32`.")
    signing_secret: SecretStr = Field(SecretStr("unset"), min_length=10, description="Signs cookies.")
    workers: int = Field(4, gt=0, description="How many.")


def problems(**values: Any) -> list[str]:
    """Return the problems of settings, one sentence each."""
    try:
        settings_for_tests(**values)
    except chassis_settings.SettingsError as error:
        found: list[str] = error.problems
        return found
    return []


# -- reading -----------------------------------------------------------------------------------------------------------


def test_setting_is_read_from_the_variable_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is the name in capitals. Its value is converted, and lists are separated by commas."""
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("ALLOWED_HOSTS", "a.example, b.example")
    monkeypatch.setenv("DEBUG", "true")
    settings = settings_for_tests()
    assert (settings.port, settings.allowed_hosts, settings.debug) == (9000, ["a.example", "b.example"], True)


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files and CI pass empty strings for unset variables."""
    monkeypatch.setenv("PORT", "")
    assert settings_for_tests().port == 8000


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings_for_tests().port = 1


def test_unknown_variables_are_ignored(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The environment has many other variables, and other programs may use `.env` too."""
    monkeypatch.setenv("PORTAL", "7")
    (folder / ".env").write_text("PORTHOLE=8\nPORT=9000\n")
    assert chassis_settings.load(module("chassis.features").ChassisSettings).port == 9000


@pytest.mark.parametrize(
    ("name", "promised"),
    [
        ("health_check_timeout_seconds", 2.0),
        ("health_check_cache_seconds", 1.0),
        ("log_file_max_bytes", 50_000_000),
        ("log_file_backups", 10),
        ("max_request_head_bytes", 65_536),
        ("request_head_timeout_seconds", 10),
        ("max_connections", 1000),
        ("response_idle_timeout_seconds", 30),
    ],
)
def test_default_is_that_of_the_contract(name: str, promised: float) -> None:
    assert module("chassis.features").ChassisSettings.model_fields[name].default == promised


# -- problems ----------------------------------------------------------------------------------------------------------


def test_check_reports_every_problem_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each problem has the variable, the value and the remedy. The exit code is 78."""
    wrong = [
        ("PORT", "many", "integer"),
        ("LOG_LEVEL", "LOUD", "'WARNING'"),
        ("CORS_MAX_AGE_SECONDS", "-1", "greater"),
    ]
    for variable, value, _ in wrong:
        monkeypatch.setenv(variable, value)
    assert cli.main(program(), ["check"]) == 78
    printed = capsys.readouterr().err
    assert "3 problems" in printed
    for variable, value, remedy in wrong:
        (sentence,) = [line for line in printed.splitlines() if line.strip().startswith(f"{variable}:")]
        assert repr(value) in sentence
        assert remedy in sentence


@pytest.mark.parametrize("command", [["check"], ["serve"], ["settings"]])
def test_command_with_invalid_settings_exits_with_78(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    monkeypatch.setenv("PORT", "many")
    assert cli.main(program(), command) == 78
    assert "PORT: " in capsys.readouterr().err


def test_process_with_invalid_settings_exits_with_78(folder: Path) -> None:
    """EX_CONFIG of sysexits.h lets an orchestrator tell it from a crash. Only the problems are printed."""
    ran = subprocess.run(
        [sys.executable, "-m", PACKAGE, "serve"],
        env=environment(folder, PORT="many", PYTHONPATH=SOURCES),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ran.returncode == 78
    assert ran.stderr.startswith("The settings have 1 problem:\n  PORT: ")
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""


def test_missing_secret_is_named_with_how_to_make_one() -> None:
    with pytest.raises(chassis_settings.SettingsError) as raised:
        chassis_settings.load(Demanding, _env_file=None)
    assert "API_KEY: is not set; Make one with `openssl rand -hex 32`." in raised.value.problems


def test_secret_settings_have_no_default() -> None:
    """The one exception is a URL without user and password. A setting with a secret's name is a secret."""
    settings = program().settings
    for name, field in settings.model_fields.items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if chassis_settings.is_secret(settings, name):
            assert default is None or re.fullmatch(r"[a-z+]+://[^@?]*", default.get_secret_value()), name
        else:
            assert "@" not in str(default), name
    for name in module("chassis.features").ChassisSettings.model_fields:
        assert chassis_settings.is_secret(settings, name) or not re.search(
            r"(password|passphrase|secret|token|dsn|api_key|private_key)$", name
        )


def test_value_of_a_secret_is_never_shown() -> None:
    """Neither a problem nor the list of effective settings contains it."""
    with pytest.raises(chassis_settings.SettingsError) as raised:
        chassis_settings.load(Demanding, _env_file=None, api_key="k", signing_secret="hunter2")
    assert [sentence.partition(":")[0] for sentence in raised.value.problems] == ["SIGNING_SECRET"]
    assert "hunter2" not in str(raised.value)
    valid = chassis_settings.load(Demanding, _env_file=None, api_key="hunter2", signing_secret="hunter2hunter2")
    shown = chassis_settings.in_force(valid)
    assert shown["API_KEY"] == shown["SIGNING_SECRET"] == "********"
    assert shown["WORKERS"] == "4"
    assert "hunter2" not in repr(valid)


def test_console_log_format_outside_of_development_is_rejected() -> None:
    assert not problems(environment="development", log_format="console")
    for environment_name in ("test", "staging"):
        assert problems(environment=environment_name, log_format="console")[0].startswith("LOG_FORMAT: ")
    assert problems(**PRODUCTION, log_format="console")[0].startswith("LOG_FORMAT: ")


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        ("ENVIRONMENT", {"environment": "live"}),
        ("PORT", {"port": 70_000}),
        ("TRUSTED_PROXIES", {"trusted_proxies": "the-proxy"}),
        ("CORS_ALLOWED_ORIGINS", {"cors_allowed_origins": "app.example.com"}),
        ("CORS_ALLOWED_ORIGINS", {"cors_allowed_origins": "https://app.example.com/"}),
        ("CORS_ALLOW_CREDENTIALS", {"cors_allowed_origins": "*", "cors_allow_credentials": True}),
        ("ALLOWED_HOSTS", {"allowed_hosts": ","}),
        ("REQUEST_TIMEOUT_SECONDS", {"request_timeout_seconds": 0}),
        ("SHUTDOWN_DRAIN_SECONDS", {"shutdown_drain_seconds": -1}),
        ("LOG_FILE_MAX_BYTES", {"log_file_max_bytes": 0}),
        ("HEALTH_CHECK_TIMEOUT_SECONDS", {"health_check_timeout_seconds": "soon"}),
    ],
)
def test_setting_that_cannot_work_is_rejected(variable: str, values: dict[str, Any]) -> None:
    (sentence,) = problems(**values)
    assert sentence.startswith(f"{variable}: ")


# -- production --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        ("DEBUG", {"debug": True}),
        ("ALLOWED_HOSTS", {"allowed_hosts": "*"}),
        ("ALLOWED_HOSTS", {"allowed_hosts": "api.example.com,*"}),
        ("CORS_ALLOWED_ORIGINS", {"cors_allowed_origins": "*"}),
    ],
)
def test_setting_for_development_only_is_rejected_in_production(variable: str, values: dict[str, Any]) -> None:
    (sentence,) = problems(**(PRODUCTION | values))
    assert sentence.startswith(f"{variable}: ")
    assert not problems(**values)


def test_default_hosts_are_rejected_in_production() -> None:
    """The default hosts are those of the local machine."""
    (sentence,) = problems(environment="production")
    assert sentence.startswith("ALLOWED_HOSTS: ")
    assert not problems(**PRODUCTION)


# -- commands ----------------------------------------------------------------------------------------------------------


def test_check_of_valid_settings_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(program(), ["check"]) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_check_creates_no_application_file_or_connection(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    inert = replace(program(), app="nowhere:create_app", serve=lambda *_: pytest.fail("it serves"))
    before = sorted(folder.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("socket.socket", lambda *_args, **_options: pytest.fail("it opens a socket"))
        assert cli.main(inert, ["check"]) == 0
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TRUSTED_PROXIES", ""),
        ("REQUEST_TIMEOUT_SECONDS", "3600"),
        ("MAX_REQUEST_BODY_BYTES", "10000000000"),
        ("RATE_LIMIT_ENABLED", "false"),
        ("BACKUP_KEY", ""),
    ],
)
def test_check_in_production_warns_of_values_to_avoid(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    """Such settings are valid, and outside production they are fine."""
    if variable.lower() not in program().settings.model_fields:
        pytest.skip(f"this service has no setting {variable}")
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.0/8")
    monkeypatch.setenv("ALLOWED_HOSTS", "api.example.com")
    monkeypatch.setenv(variable, value)
    for environment_name, warned in (("production", True), ("staging", False)):
        monkeypatch.setenv("ENVIRONMENT", environment_name)
        assert cli.main(program(), ["check"]) == 0
        assert (f"Warning: {variable}: " in capsys.readouterr().err) == warned


def test_settings_command_prints_the_effective_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints them as they are written in the environment."""
    monkeypatch.setenv("ALLOWED_HOSTS", "a.example, b.example")
    assert cli.main(program(), ["settings"]) == 0
    shown = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert shown.keys() == {name.upper() for name in program().settings.model_fields}
    assert shown["ALLOWED_HOSTS"] == "a.example,b.example"
    assert (shown["DEBUG"], shown["PORT"], shown["LOG_FILE"]) == ("false", "8000", "")


def test_unknown_command_is_rejected_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(program(), ["sereve"])
    assert "serve" in capsys.readouterr().err
