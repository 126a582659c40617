"""The settings documents list every setting and cannot drift from the settings classes."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import Field, SecretStr

from ..package import ROOT, environment, module, program

docs = SimpleNamespace(**runpy.run_path(str(ROOT / "tools" / "settings_docs.py")))
cli = module("chassis.cli")
Settings = program().settings

VARIABLES = {name.upper() for name in Settings.model_fields}


class Example(module("chassis.settings").BaseChassisSettings):
    """Payments: settings of the bank."""

    bank_key: SecretStr = Field(description="Ask the bank for one.")
    retries: int = Field(3, description="How often a transfer is tried.")


def test_env_example_equals_the_settings() -> None:
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == docs.env_example(Settings), "make settings-docs"


def test_configuration_md_has_the_tables_of_the_settings() -> None:
    """You may add text to the page, but its tables are exactly those of the settings classes."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for section in docs.sections(Settings):
        table = docs.markdown_section(Settings, section)
        assert table in page, f"copy this table into the page:\n{table}"
    assert sorted(re.findall(r"^\| `([A-Z0-9_]+)` \|", page, re.MULTILINE)) == sorted(VARIABLES)


def test_production_example_once_filled_in_is_valid(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has only settings that exist, and the service does not start until the file is filled in."""
    example = (ROOT / ".env.production.example").read_text(encoding="utf-8")
    lines = re.findall(r"^([A-Z_]+)=(.*)$", example, re.MULTILINE)
    assert dict(lines).keys() <= VARIABLES
    assert ("ENVIRONMENT", "production") in lines
    for name, value in lines:
        monkeypatch.setenv(name, value)
    assert cli.main(program(), ["check"]) == 78
    assert "ALLOWED_HOSTS: " in capsys.readouterr().err
    filled_in = environment(folder) | {"ALLOWED_HOSTS": "api.example.com"}
    for name in [name for name, value in lines if not value and name in filled_in]:
        monkeypatch.setenv(name, filled_in[name])
    assert cli.main(program(), ["check"]) == 0


def test_production_example_lists_your_settings() -> None:
    """Each of them has a line, which may be commented out. `make settings-docs` adds missing ones."""
    example = (ROOT / ".env.production.example").read_text(encoding="utf-8")
    assert docs.production_example(Settings, example) == example, "make settings-docs"


def test_production_example_keeps_your_lines_and_gets_new_settings() -> None:
    """Your lines stay. The line of a required setting must be filled in. All others are commented out."""
    example = "ENVIRONMENT=production\n# Ours.\nBANK_KEY=\n"
    added = docs.production_example(Example, example)
    assert added.startswith(example)
    assert re.findall(r"^#? ?[A-Z_]+=.*$", added, re.MULTILINE)[-1] == "# RETRIES=3"
    assert docs.production_example(Example, added) == added
    assert "\nBANK_KEY=\n" in docs.production_example(Example, "ENVIRONMENT=production\n")


@pytest.mark.parametrize("example", [".env.example", ".env.production.example", "compose.yaml"])
def test_example_holds_no_secret(example: str) -> None:
    """Secrets, and passwords in URLs, are empty or come from the environment."""
    if not (ROOT / example).exists():
        pytest.skip(f"this service has no {example}")
    for name, value in assigned((ROOT / example).read_text(encoding="utf-8")):
        address = re.fullmatch(r"[a-z+]+://(?:[^@/?]*@)?[^@?]*", value)
        assert not re.search(r"://[^@/]*:[^@/]+@", value), name
        assert not value or address or not is_secret(name), name


def assigned(text: str) -> Iterator[tuple[str, str]]:
    """Yield each variable with its value, also of commented-out lines, without references to the environment."""
    for name, value in re.findall(r"^[ #-]*([A-Z][A-Z0-9_]*)(?:=|: *)(.*)$", text, re.MULTILINE):
        value = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value.strip("\"'"))
        yield name, re.sub(r"\$\{\w+(:\?[^}]*)?\}", "", value)


def is_secret(variable: str) -> bool:
    """Tell whether a variable is secret, by its type or its name. `..._RANDOM_..._PASSWORD` is a switch."""
    if variable in VARIABLES:
        return bool(module("chassis.settings").is_secret(Settings, variable.lower()))
    return bool(re.search(r"(?<!_RANDOM)(?<!_RANDOM_ROOT)_(PASSWORD|SECRET|TOKEN|DSN|KEY)$", variable))


@pytest.mark.parametrize("document", ["env", "markdown"])
def test_settings_documents_list_every_setting_once(document: str) -> None:
    """Each setting has a description."""
    written = docs.env_example(Settings) if document == "env" else docs.markdown(Settings)
    for variable in VARIABLES:
        line = rf"^(# )?{variable}=" if document == "env" else rf"^\| `{variable}` \|"
        assert len(re.findall(line, written, re.MULTILINE)) == 1
    for _, settings in docs.sections(Settings):
        for name, field in settings:
            assert field.description, name
            assert field.description in written


def test_env_section_comments_out_settings_with_a_default() -> None:
    """A setting without a default is not commented out."""
    assert docs.env_section(Example, list(docs.sections(Example))[-1]) == (
        "# --- Payments ---\n"
        "# Ask the bank for one. (secret text)\n"
        "BANK_KEY=\n"
        "# How often a transfer is tried. (integer)\n"
        "# RETRIES=3\n"
    )


def test_markdown_section_shows_no_default_of_a_secret() -> None:
    """The table shows `required` instead."""
    assert docs.markdown_section(Example, list(docs.sections(Example))[-1]) == (
        "## Payments\n\n"
        "| variable | type | default | meaning |\n"
        "|---|---|---|---|\n"
        "| `BANK_KEY` | secret text | required | Ask the bank for one. |\n"
        "| `RETRIES` | integer | `3` | How often a transfer is tried. |\n"
    )
