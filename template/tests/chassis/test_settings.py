"""Settings: typed, validated once at start, with all problems in one report."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from pydantic import Field, SecretStr

from ..package import PACKAGE, environment, module, program
from .conftest import Logs, Start, settings_for_tests
from .process import PATIENCE_SECONDS, SOURCES

chassis_settings = module("chassis.settings")
cli = module("chassis.cli")

# The settings that a production service needs.
PRODUCTION = {"environment": "production", "allowed_hosts": "api.example.com"}


class Demanding(module("chassis.features").ChassisSettings):
    """The settings of an owner"""

    # Your own settings must not have these names.
    chassis_test_key: SecretStr = Field(description="Make one with `openssl rand -hex 32`.")
    chassis_test_secret: SecretStr = Field(SecretStr("unset"), min_length=10, description="Signs cookies.")
    chassis_test_count: int = Field(4, gt=0, description="How many.")
    chassis_test_table: dict[str, int] = Field({}, description="A table.")


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
    assert "CHASSIS_TEST_KEY: is not set; Make one with `openssl rand -hex 32`." in raised.value.problems


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
        chassis_settings.load(Demanding, _env_file=None, chassis_test_key="k", chassis_test_secret="hunter2")
    assert [sentence.partition(":")[0] for sentence in raised.value.problems] == ["CHASSIS_TEST_SECRET"]
    assert "hunter2" not in str(raised.value)
    valid = chassis_settings.load(Demanding, _env_file=None, **SECRETS)
    shown = chassis_settings.in_force(valid)
    assert shown["CHASSIS_TEST_KEY"] == shown["CHASSIS_TEST_SECRET"] == "********"
    assert shown["CHASSIS_TEST_COUNT"] == "4"
    assert "hunter2" not in repr(valid)


def test_password_in_an_invalid_url_is_never_shown() -> None:
    """A URL may contain a password even if its setting is not a secret."""
    (sentence,) = problems(cors_allowed_origins="https://me:hunter2@pages.example.com/")
    assert "://********@pages.example.com" in sentence
    assert "hunter2" not in sentence


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
        ("ALLOWED_HOSTS", {"allowed_hosts": "api.example.com,https://www.example.com"}),
        ("ALLOWED_HOSTS", {"allowed_hosts": "api.example.com:8000"}),
        ("ALLOWED_HOSTS", {"allowed_hosts": "api.example.com/"}),
        ("ALLOWED_HOSTS", {"allowed_hosts": "api.example.com www.example.com"}),
        ("REQUEST_TIMEOUT_SECONDS", {"request_timeout_seconds": 0}),
        ("REQUEST_TIMEOUT_SECONDS", {"request_timeout_seconds": "inf"}),
        ("SHUTDOWN_DRAIN_SECONDS", {"shutdown_drain_seconds": -1}),
        ("LOG_FILE_MAX_BYTES", {"log_file_max_bytes": 0}),
        ("HEALTH_CHECK_TIMEOUT_SECONDS", {"health_check_timeout_seconds": "soon"}),
    ],
)
def test_setting_that_cannot_work_is_rejected(variable: str, values: dict[str, Any]) -> None:
    (sentence,) = problems(**values)
    assert sentence.startswith(f"{variable}: ")


# -- sources -----------------------------------------------------------------------------------------------------------


SECRETS = {"chassis_test_key": "hunter2", "chassis_test_secret": "hunter2hunter2"}


def faults(**values: Any) -> list[str]:
    """Return the problems of settings that are read from `.env` as well, in the order of their sentences."""
    try:
        chassis_settings.load(Demanding, **SECRETS, **values)
    except chassis_settings.SettingsError as error:
        return sorted(error.problems)
    return []


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize("variable", ["ALLOWED_HOSTS", "PORT", "SERVICE_NAME", "CHASSIS_TEST_KEY", "DEBUG"])
def test_value_in_quotes_is_rejected(monkeypatch: pytest.MonkeyPatch, variable: str, quote: str) -> None:
    """`docker run --env-file` hands over the quotes that Compose and this service remove from `.env`."""
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name.upper(), secret)
    for value in (f"{quote}hunter2{quote}", f"{quote}hunter2{quote} # a comment"):
        monkeypatch.setenv(variable, value)
        with pytest.raises(chassis_settings.SettingsError) as raised:
            chassis_settings.load(Demanding)
        (sentence,) = raised.value.problems
        assert sentence.startswith(f"{variable}: the quotes are part of the value; remove them")
        assert ("hunter2" in sentence) == (variable != "CHASSIS_TEST_KEY")


@pytest.mark.parametrize("value", ["'self'", "'none'", "'self' 'none'", '"a" or "b"', "it's", '"', "'a\""])
def test_value_that_only_contains_quotes_is_accepted(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CHASSIS_TEST_KEY", value)
    settings = chassis_settings.load(Demanding, chassis_test_secret="hunter2hunter2")
    assert settings.chassis_test_key.get_secret_value() == value


def test_item_of_a_list_in_quotes_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", """api.example.com, "www.example.com" """)
    assert [sentence.partition(":")[0] for sentence in faults()] == ["ALLOWED_HOSTS"]


@pytest.mark.parametrize(
    "value", ["a.example,b.example", '["a.example", "b.example"]', ' [ "a.example",\n"b.example"] ']
)
def test_list_is_written_with_commas_or_as_json(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", value)
    assert chassis_settings.load(Demanding, **SECRETS).allowed_hosts == ["a.example", "b.example"]


def test_list_in_invalid_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", '["a.example", "b.example"')
    (sentence,) = faults()
    assert sentence.startswith("ALLOWED_HOSTS: is not valid JSON; ")


def test_spaces_around_a_value_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`docker run --env-file` hands over the spaces that Compose and this service remove from `.env`."""
    monkeypatch.setenv("CHASSIS_TEST_KEY", " hunter2  ")
    monkeypatch.setenv("PORT", "9000 ")
    settings = chassis_settings.load(Demanding, chassis_test_secret="hunter2hunter2")
    assert (settings.chassis_test_key.get_secret_value(), settings.port) == ("hunter2", 9000)


def test_value_that_is_not_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dictionary is read as JSON."""
    monkeypatch.setenv("CHASSIS_TEST_TABLE", "a=1")
    (sentence,) = faults()
    assert "chassis_test_table" in sentence


def make_directory(path: Path) -> None:
    path.mkdir()


def make_binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")


def make_with_mark(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbfPORT=9000\n")


def make_endless(path: Path) -> None:
    path.symlink_to(path.name)  # no user can read it, not even the superuser


@pytest.mark.parametrize("make", [make_directory, make_binary, make_with_mark, make_endless])
def test_secrets_file_that_cannot_be_read_is_named(folder: Path, make: Callable[[Path], None]) -> None:
    """The service does not start if the file of a secret is damaged."""
    (folder / "run").mkdir()
    path = folder / "run" / "chassis_test_key"
    make(path)
    (sentence,) = faults(_secrets_dir=folder / "run")
    assert sentence.startswith(f"{path}: ")
    assert "; " in sentence


@pytest.mark.parametrize("make", [make_directory, make_binary, make_with_mark])
def test_env_file_that_cannot_be_read_is_named(folder: Path, make: Callable[[Path], None]) -> None:
    make(folder / ".env")
    (sentence,) = faults()
    assert sentence.startswith(".env: ")


def test_secrets_directory_that_is_a_file_is_named_and_other_files_in_it_are_ignored(folder: Path) -> None:
    make_binary(folder / "secrets")
    (sentence,) = faults(_secrets_dir=folder / "secrets")
    assert sentence.startswith(f"{folder / 'secrets'}: cannot be read")
    (folder / "run" / "..data").mkdir(parents=True)
    make_binary(folder / "run" / "keystore")
    (folder / "run" / "port").write_text("9000\n")
    assert chassis_settings.load(Demanding, **SECRETS, _secrets_dir=folder / "run").port == 9000


def test_command_with_an_unreadable_file_exits_with_78(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_directory(folder / ".env")
    assert cli.main(program(), ["check"]) == 78
    assert "  .env: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "is_rejected"),
    [
        ("PASSWORD=pa$word", True),
        ("PASSWORD='pa$word'", False),
        ("PASSWORD='pa${word}'", True),
        ('PASSWORD="pa$word"', True),
        ("export PASSWORD = pa$word", True),
        ("PASSWORD=pa#word", False),
        ("PASSWORD='pa # word'", False),
        ("# PASSWORD=pa$word", False),
        ("PASSWORD=word # costs $5", False),
        ('PASSWORD="word" # costs $5', False),
        ("PASSWORD= # costs $5", True),
        ('PASSWORD="word # costs $5"', True),
        ('PASSWORD="a\\" # costs $5"', True),
        ("OTHER_PROGRAM=$HOME", False),
    ],
)
def test_value_that_compose_reads_differently_is_rejected(folder: Path, line: str, is_rejected: bool) -> None:
    """Compose replaces `$word` in `.env`, and python-dotenv `${word}`."""
    (folder / ".env").write_text(line.replace("PASSWORD", "CHASSIS_TEST_KEY") + "\n")
    assert bool(faults()) == is_rejected
    for sentence in faults():
        assert sentence.startswith("CHASSIS_TEST_KEY: Compose replaces `$` in .env; ")
        assert "word" not in sentence


@pytest.mark.skipif(shutil.which("docker") is None, reason="Compose is not installed")
def test_values_that_are_accepted_mean_the_same_to_compose(folder: Path) -> None:
    lines = ["'pa$word'", "pa#word", "'pa # word'", "INFO # loud", "two words  ", "a\\nb", '"a\\nb"', "'it\\'s'"]
    lines += ["INFO # costs $5", '"INFO" # costs $5']
    (folder / ".env").write_text("".join(f"VALUE_{number}={line}\n" for number, line in enumerate(lines)))
    (folder / "compose.yaml").write_text("services: {app: {image: any, env_file: [.env]}}\n")
    command = ["docker", "compose", "config", "--format", "json"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    if ran.returncode:
        pytest.skip(ran.stderr)
    # `config` writes `$` as `$$`.
    read = json.loads(ran.stdout.replace("$$", "$"))["services"]["app"]["environment"]
    assert read == dotenv_values(folder / ".env")


def warned(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert cli.main(program(), ["check"]) == 0
    return re.findall(r"^Warning: (.*)$", capsys.readouterr().err, re.MULTILINE)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("LOGLEVEL", "LOG_LEVEL"), ("ALOWED_HOSTS", "ALLOWED_HOSTS"), ("shutdown_timeout", "SHUTDOWN_TIMEOUT_SECONDS")],
)
def test_misspelt_setting_in_env_file_is_named_with_the_nearest(
    folder: Path, capsys: pytest.CaptureFixture[str], written: str, meant: str
) -> None:
    (folder / ".env").write_text(f"{written}=1\nUNRELATED_THING=2\nPORTHOLE=3\n")
    assert warned(capsys) == [f"{written.upper()} in .env is not a setting; the nearest one is {meant}."]


def test_misspelt_setting_in_the_environment_is_named_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other programs have variables too, so a mere resemblance is not enough."""
    for name in ("ALOWED_HOSTS", "PORTAL", "HOSTNAME", "SHUTDOWN_TIMEOUT", "DATABASE_HOST"):
        monkeypatch.setenv(name, "1")
    assert warned(capsys) == ["ALOWED_HOSTS is not a setting; the nearest one is ALLOWED_HOSTS."]


def test_misspelt_setting_is_logged_at_start(start: Start, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALOWED_HOSTS", "1")
    start()
    (entry,) = logs("settings_source_doubtful")
    assert "ALLOWED_HOSTS" in entry["warning"]


def test_comment_behind_a_value_in_env_file_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`docker run --env-file` takes it as part of the value."""
    (folder / ".env").write_text("PORT=9000 # mine\nSERVICE_NAME='a # b'\nLOG_LEVEL='INFO' # loud\n# PORT=1 # x\n")
    assert [sentence.partition(" ")[0] for sentence in warned(capsys)] == ["PORT", "LOG_LEVEL"]
    (folder / ".env").write_text("LOG_FILE= # none\nSERVICE_VERSION=#1\n")
    assert [sentence.partition(" ")[0] for sentence in warned(capsys)] == ["LOG_FILE"]


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


@pytest.mark.parametrize(
    ("arguments", "is_buffered", "code"),
    [(["settings"], True, 0), (["settings"], False, 1), (["--help"], True, 0)],
    ids=["settings", "settings without a buffer", "help"],
)
def test_command_whose_output_is_not_read_prints_no_error(
    folder: Path, arguments: list[str], is_buffered: bool, code: int
) -> None:
    """`| head` closes the pipe before the command has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", PACKAGE, *arguments]
    environ = environment(folder, PYTHONPATH=SOURCES, PYTHONUNBUFFERED="" if is_buffered else "1")
    done = subprocess.run(command, cwd=folder, env=environ, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (code, b"")


def test_unknown_command_is_rejected_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(program(), ["sereve"])
    assert "serve" in capsys.readouterr().err
