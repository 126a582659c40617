"""Writes `.env*.example` and `docs/configuration.md` from the settings classes: `make settings-docs`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = next((ROOT / "src").glob("*/chassis")).parent.name
sys.path.insert(0, str(ROOT / "src"))
chassis = import_module(f"{PACKAGE}.chassis.settings")

Settings = Any  # a class of settings
Section = tuple[str, list[tuple[str, FieldInfo]]]

ENV_INTRO = """\
# Every setting with its default. Copy this file to .env, which git ignores, and change there what you need.
# `make settings-docs` writes this file from the settings classes.
# Write values without quotes, and put comments on separate lines. Put a value with `$` in single quotes for Compose.
# `docker run --env-file` keeps quotes, and never replaces `$`.
"""
MARKDOWN_INTRO = """\
# Configuration

The service reads settings from environment variables, from a file `.env` in its working directory, and from files in
`/run/secrets` that are named after variables in lower case. A variable takes precedence over `.env`, and `.env` over a
file in `/run/secrets`. An empty value counts as not set, and spaces around a value are ignored.

In `.env`, write values without quotes, and put comments on separate lines. Put a value with `$` in single quotes,
because Compose replaces `$`. With `docker run --env-file`, quotes and comments become part of the value. The service
rejects values in quotes, and warns about comments and about names that look like a misspelt setting.

The service validates all settings once, at start. If some are invalid, it prints every problem with its remedy, and its
exit code is 78. `make validate` does the same without a start.

`make settings-docs` writes this page from the settings classes.
"""
_NONE_YET = "None yet. A field in `settings.py` is listed here by `make settings-docs`."


def sections(cls: Settings) -> Iterator[Section]:
    """Yield a title and the fields of each settings class, those of the chassis first.

    The title is the first line of the docstring, up to a colon.
    """
    done: set[str] = set()
    for owner in reversed(cls.__mro__):
        if not issubclass(owner, chassis.BaseChassisSettings):
            continue
        own = [name for name in owner.__annotations__ if name in cls.model_fields and name not in done]
        done.update(own)
        if own or owner is cls:
            title = (owner.__doc__ or owner.__name__).strip().splitlines()[0].rstrip(".")
            yield title.partition(":")[0], [(name, owner.model_fields[name]) for name in own]


def env_example(cls: Settings) -> str:
    """Return the text of `.env.example`: every setting, commented out if it has a default."""
    return ENV_INTRO + "".join("\n" + env_section(cls, section) for section in sections(cls))


def env_section(cls: Settings, section: Section) -> str:
    title, settings = section
    lines = [f"# --- {title} ---"]
    for name, field in settings:
        lines.append(f"# {field.description} ({_type_name(field)})")
        lines.append(
            f"{'' if cls.model_fields[name].is_required() else '# '}{chassis.variable(name)}={_default(cls, name)}"
        )
    return "\n".join(lines if settings else [*lines, f"# {_NONE_YET}"]) + "\n"


def production_example(cls: Settings, text: str) -> str:
    """Return the text of `.env.production.example`, with those of your settings that it lacks added at its end."""
    chassis_settings = import_module(f"{PACKAGE}.chassis.features").ChassisSettings
    for title, settings in sections(cls):
        missing = [
            (name, field)
            for name, field in settings
            if name not in chassis_settings.model_fields
            and not re.search(rf"^(# )?{chassis.variable(name)}=", text, re.MULTILINE)
        ]
        text += "\n" + env_section(cls, (title, missing)) if missing else ""
    return text


def markdown(cls: Settings) -> str:
    """Return the text of `docs/configuration.md`."""
    return MARKDOWN_INTRO + "".join("\n" + markdown_section(cls, section) for section in sections(cls))


def markdown_section(cls: Settings, section: Section) -> str:
    title, settings = section
    lines = [f"## {title}", ""]
    if not settings:
        return "\n".join([*lines, _NONE_YET]) + "\n"
    lines += ["| variable | type | default | meaning |", "|---|---|---|---|"]
    for name, field in settings:
        default = f"`{_default(cls, name)}`" if _default(cls, name) else ""
        default = "required" if cls.model_fields[name].is_required() else default
        lines.append(f"| `{chassis.variable(name)}` | {_type_name(field)} | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def _default(cls: Settings, name: str) -> str:
    """Return the default as text. It is empty for a secret, and for a default that is computed at start."""
    field = cls.model_fields[name]
    if field.is_required() or field.default_factory is not None or chassis.is_secret(cls, name):
        return ""
    return str(chassis.shown(field.default))


def _type_name(field: FieldInfo) -> str:
    return " or ".join(_type_names(field.annotation))


def _type_names(annotation: Any) -> list[str]:
    if get_origin(annotation) is list:
        return ["comma-separated list"]
    arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
    if not arguments:
        names = {"str": "text", "int": "integer", "float": "number", "bool": "true or false", "Path": "path"}
        return [names.get(getattr(annotation, "__name__", ""), "secret text")]
    if isinstance(arguments[0], str):
        return [", ".join(arguments)]
    return [name for argument in arguments for name in _type_names(argument)]


def main() -> None:
    cls = import_module(f"{PACKAGE}.settings").Settings
    (ROOT / ".env.example").write_text(env_example(cls), encoding="utf-8")
    production = ROOT / ".env.production.example"
    production.write_text(production_example(cls, production.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / "docs" / "configuration.md").write_text(markdown(cls), encoding="utf-8")


if __name__ == "__main__":
    main()
