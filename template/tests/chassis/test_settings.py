"""Settings: typed, checked once at start, every problem reported in one go."""

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

# What a production service must be told.
PRODUCTION = {"environment": "production", "allowed_hosts": "api.example.com"}


class Demanding(module("chassis.features").ChassisSettings):
    """Settings of an owner"""

    api_key: SecretStr = Field(description="Make one with `openssl rand -hex 32`.")
    signing_secret: SecretStr = Field(SecretStr("unset"), min_length=10, description="Signs cookies.")
    workers: int = Field(4, gt=0, description="How many.")


def problems(**values: Any) -> list[str]:
    """Return what is wrong with settings, one sentence each."""
    try:
        settings_for_tests(**values)
    except chassis_settings.SettingsError as error:
        found: list[str] = error.problems
        return found
    return []


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_setting_is_read_from_the_variable_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """In capitals, converted to its type; lists are separated by commas."""
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("ALLOWED_HOSTS", "a.example, b.example")
    monkeypatch.setenv("DEBUG", "true")
    settings = settings_for_tests()
    assert (settings.port, settings.allowed_hosts, settings.debug) == (9000, ["a.example", "b.example"], True)


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files and CI pass empty strings for what nobody set."""
    monkeypatch.setenv("PORT", "")
    assert settings_for_tests().port == 8000


def test_settings_cannot_be_changed_afterwards() -> None:
    """They are read once."""
    with pytest.raises(ValueError, match="frozen"):
        settings_for_tests().port = 1


def test_variables_of_others_are_ignored(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The environment is full of them, and `.env` may serve others too."""
    monkeypatch.setenv("PORTAL", "7")
    (folder / ".env").write_text("PORTHOLE=8\nPORT=9000\n")
    assert chassis_settings.load(module("chassis.features").ChassisSettings).port == 9000


@pytest.mark.parametrize(
    ("name", "promised"),
    [
        ("health_check_timeout_seconds", 2.0),
        ("health_check_interval_seconds", 1.0),
        ("log_file_max_bytes", 50_000_000),
        ("log_file_backups", 10),
    ],
)
def test_a_default_is_what_is_promised(name: str, promised: float) -> None:
    """Who sets nothing gets these."""
    assert module("chassis.features").ChassisSettings.model_fields[name].default == promised


# -- refusing ----------------------------------------------------------------------------------------------------------


def test_every_problem_is_reported_in_one_go(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with the variable, the value and the remedy; the exit code is 78."""
    wrong = [
        ("PORT", "many", "integer"),
        ("LOG_LEVEL", "LOUD", "'WARNING'"),
        ("CORS_MAX_AGE_SECONDS", "-1", "greater"),
    ]
    for variable, value, _ in wrong:
        monkeypatch.setenv(variable, value)
    assert cli.main(program(), ["check"]) == 78
    said = capsys.readouterr().err
    assert "3 problems" in said
    for variable, value, remedy in wrong:
        (sentence,) = [line for line in said.splitlines() if line.strip().startswith(f"{variable}:")]
        assert repr(value) in sentence
        assert remedy in sentence


@pytest.mark.parametrize("command", [["check"], ["serve"], ["settings"]])
def test_no_command_runs_with_settings_that_are_not_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """Each stops with 78 before it does anything."""
    monkeypatch.setenv("PORT", "many")
    assert cli.main(program(), command) == 78
    assert "PORT: " in capsys.readouterr().err


def test_the_process_exits_with_78(folder: Path) -> None:
    """EX_CONFIG of sysexits.h: an orchestrator can tell it from a crash. Nothing but the sentences is printed."""
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


def test_a_missing_secret_is_named_with_how_to_make_one() -> None:
    """No secret has a default."""
    with pytest.raises(chassis_settings.SettingsError) as refused:
        chassis_settings.load(Demanding, _env_file=None)
    assert "API_KEY: is not set; Make one with `openssl rand -hex 32`." in refused.value.problems


def test_no_secret_has_a_default() -> None:
    """But an address, which holds neither user nor password; and what is named like a secret is treated as one."""
    settings = program().settings
    for name, field in settings.model_fields.items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if chassis_settings.is_secret(settings, name):
            assert default is None or re.fullmatch(r"[a-z+]+://[^@?]*", default.get_secret_value()), name
        else:
            assert "@" not in str(default), name
    for name in module("chassis.features").ChassisSettings.model_fields:
        assert chassis_settings.is_secret(settings, name) or not re.search(r"(password|secret|token|dsn|key)$", name)


def test_a_secrets_value_is_never_said() -> None:
    """Neither where it is wrong nor where it is shown."""
    with pytest.raises(chassis_settings.SettingsError) as refused:
        chassis_settings.load(Demanding, _env_file=None, api_key="k", signing_secret="hunter2")
    assert [sentence.partition(":")[0] for sentence in refused.value.problems] == ["SIGNING_SECRET"]
    assert "hunter2" not in str(refused.value)
    fit = chassis_settings.load(Demanding, _env_file=None, api_key="hunter2", signing_secret="hunter2hunter2")
    shown = chassis_settings.in_force(fit)
    assert shown["API_KEY"] == shown["SIGNING_SECRET"] == "********"
    assert shown["WORKERS"] == "4"
    assert "hunter2" not in repr(fit)


def test_console_logs_are_for_development_only() -> None:
    """Machines read the others."""
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
def test_what_cannot_work_is_refused(variable: str, values: dict[str, Any]) -> None:
    """Before it makes trouble at three in the morning."""
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
def test_production_refuses_what_is_only_for_development(variable: str, values: dict[str, Any]) -> None:
    """And elsewhere it is allowed."""
    (sentence,) = problems(**(PRODUCTION | values))
    assert sentence.startswith(f"{variable}: ")
    assert not problems(**values)


def test_production_must_name_its_hosts() -> None:
    """The default knows only this machine."""
    (sentence,) = problems(environment="production")
    assert sentence.startswith("ALLOWED_HOSTS: ")
    assert not problems(**PRODUCTION)


# -- commands ----------------------------------------------------------------------------------------------------------


def test_check_says_that_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, with exit code 0."""
    assert cli.main(program(), ["check"]) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_check_does_nothing_else(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """It makes no application, serves nothing, connects to nothing and leaves no file."""
    inert = replace(program(), app="nowhere:create_app", serve=lambda *_: pytest.fail("it serves"))
    before = sorted(folder.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("socket.socket", lambda *_args, **_options: pytest.fail("it opens a socket"))
        assert cli.main(inert, ["check"]) == 0
    assert sorted(folder.iterdir()) == before


def test_settings_prints_what_is_in_force(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As it would be written in the environment."""
    monkeypatch.setenv("ALLOWED_HOSTS", "a.example, b.example")
    assert cli.main(program(), ["settings"]) == 0
    shown = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert shown.keys() == {name.upper() for name in program().settings.model_fields}
    assert shown["ALLOWED_HOSTS"] == "a.example,b.example"
    assert (shown["DEBUG"], shown["PORT"], shown["LOG_FILE"]) == ("false", "8000", "")


def test_an_unknown_command_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """With those that there are."""
    with pytest.raises(SystemExit):
        cli.main(program(), ["sereve"])
    assert "serve" in capsys.readouterr().err
