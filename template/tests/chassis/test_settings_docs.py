"""The lists of settings for people: they name every setting, and cannot drift from the classes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from ..package import PACKAGE, ROOT, environment, module, program

docs = module("chassis.settings_docs")
cli = module("chassis.cli")
Settings = program().settings

VARIABLES = {name.upper() for name in Settings.model_fields}


class Example(module("chassis.settings").BaseChassisSettings):
    """Payments: what the bank wants."""

    bank_key: SecretStr = Field(description="Ask the bank for one.")
    retries: int = Field(3, description="How often a transfer is tried.")


def test_env_example_is_what_the_classes_say() -> None:
    """It is written by a command, and never by hand."""
    remedy = f"python -m {PACKAGE} settings --format env > .env.example"
    assert (ROOT / ".env.example").read_text() == docs.env_example(Settings), remedy


def test_configuration_md_is_what_the_classes_say() -> None:
    """Every table of the page is the one that the command writes, and it has no others of settings."""
    page = (ROOT / "docs" / "configuration.md").read_text()
    for section in docs.sections(Settings):
        table = docs.markdown_section(Settings, section)
        assert table in page, f"put what `python -m {PACKAGE} settings --format markdown` prints into the page"
    assert sorted(re.findall(r"^\| `([A-Z0-9_]+)` \|", page, re.MULTILINE)) == sorted(VARIABLES)


def test_the_production_form_is_enough_once_it_is_filled_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It asks only for settings that exist, and the service refuses to start with the empty form."""
    form = re.findall(r"^([A-Z_]+)=(.*)$", (ROOT / ".env.production.example").read_text(), re.MULTILINE)
    assert dict(form).keys() <= VARIABLES
    assert ("ENVIRONMENT", "production") in form
    for name, value in form:
        monkeypatch.setenv(name, value)
    assert cli.main(program(), ["check"]) == 78
    assert "ALLOWED_HOSTS: " in capsys.readouterr().err
    filled_in = environment(folder) | {"ALLOWED_HOSTS": "api.example.com"}
    for name in [name for name, value in form if not value and name in filled_in]:
        monkeypatch.setenv(name, filled_in[name])
    assert cli.main(program(), ["check"]) == 0


@pytest.mark.parametrize("example", [".env.example", ".env.production.example", "compose.yaml"])
def test_no_example_holds_a_secret(example: str) -> None:
    """A secret is empty, or taken from the environment; an address has no password that is not taken from there."""
    if not (ROOT / example).exists():
        pytest.skip(f"this service has no {example}")
    for name, value in assigned((ROOT / example).read_text()):
        address = re.fullmatch(r"[a-z+]+://(?:[^@/?]*@)?[^@?]*", value)
        assert not re.search(r"://[^@/]*:[^@/]+@", value), name
        assert not value or address or not is_secret(name), name


def assigned(text: str) -> Iterator[tuple[str, str]]:
    """Yield each variable that is given a value, commented out or not, without what comes from the environment."""
    for name, value in re.findall(r"^[ #-]*([A-Z][A-Z0-9_]*)(?:=|: *)(.*)$", text, re.MULTILINE):
        value = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value.strip("\"'"))
        yield name, re.sub(r"\$\{\w+(:\?[^}]*)?\}", "", value)


def is_secret(variable: str) -> bool:
    """Tell by its class or its name; to have a random one made is no secret."""
    if variable in VARIABLES:
        return bool(module("chassis.settings").is_secret(Settings, variable.lower()))
    return bool(re.search(r"(?<!_RANDOM)(?<!_RANDOM_ROOT)_(PASSWORD|SECRET|TOKEN|DSN|KEY)$", variable))


@pytest.mark.parametrize("form", ["env", "markdown"])
def test_every_setting_is_listed(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """Once, with type, default and meaning."""
    assert cli.main(program(), ["settings", "--format", form]) == 0
    written = capsys.readouterr().out
    for variable in VARIABLES:
        assert written.count(f"{variable}=" if form == "env" else f"| `{variable}` |") == 1
    for _, settings in docs.sections(Settings):
        for name, field in settings:
            assert field.description, name
            assert field.description in written


def test_a_section_of_the_form() -> None:
    """What has a default is commented out; what has none is left to be filled in."""
    assert docs.env_section(Example, list(docs.sections(Example))[-1]) == (
        "# --- Payments ---\n"
        "# Ask the bank for one. (secret text)\n"
        "BANK_KEY=\n"
        "# How often a transfer is tried. (integer)\n"
        "# RETRIES=3\n"
    )


def test_a_section_of_the_table() -> None:
    """A secret has no default to show."""
    assert docs.markdown_section(Example, list(docs.sections(Example))[-1]) == (
        "## Payments\n\n"
        "| variable | type | default | meaning |\n"
        "|---|---|---|---|\n"
        "| `BANK_KEY` | secret text | required | Ask the bank for one. |\n"
        "| `RETRIES` | integer | `3` | How often a transfer is tried. |\n"
    )
