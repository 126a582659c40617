"""Writes `.env.example` and `docs/configuration.md` from the settings classes, so that neither can drift."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from .settings import BaseChassisSettings, is_secret, shown, variable

Settings = type[BaseChassisSettings]
Section = tuple[str, list[tuple[str, FieldInfo]]]

ENV_INTRO = """\
# Every setting with its default. Copy this file to .env, which git ignores, and change there what you need.
# `make settings-docs` writes it from the settings classes.
"""
MARKDOWN_INTRO = """\
# Configuration

Settings come from environment variables, from a file `.env` in the folder where the service is started, and from files
in `/run/secrets`, each named after a variable in lower case. A variable wins over `.env`, and `.env` over a secret's
file. An empty value counts as not set.

They are validated once, at start. Every problem is reported in one go, with its remedy, and the exit code is 78.
`make validate` asks for the same without a start.

`make settings-docs` writes this page from the settings classes.
"""
_NONE_YET = "None yet. A field in `settings.py` is listed here by `make settings-docs`."


def sections(cls: Settings) -> Iterator[Section]:
    """Yield the settings class by class, the chassis's first; a class's title is the first words of its docstring."""
    done: set[str] = set()
    for owner in reversed(cls.__mro__):
        if not issubclass(owner, BaseChassisSettings):
            continue
        own = [name for name in owner.__annotations__ if name in cls.model_fields and name not in done]
        done.update(own)
        if own or owner is cls:
            title = (owner.__doc__ or owner.__name__).strip().splitlines()[0].rstrip(".")
            yield title.partition(":")[0], [(name, owner.model_fields[name]) for name in own]


def env_example(cls: Settings) -> str:
    """Return the text of `.env.example`: every setting, commented out where it has a default."""
    return ENV_INTRO + "".join("\n" + env_section(cls, section) for section in sections(cls))


def env_section(cls: Settings, section: Section) -> str:
    title, settings = section
    lines = [f"# --- {title} ---"]
    for name, field in settings:
        lines.append(f"# {field.description} ({_kind(field)})")
        lines.append(f"{'' if cls.model_fields[name].is_required() else '# '}{variable(name)}={_default(cls, name)}")
    return "\n".join(lines if settings else [*lines, f"# {_NONE_YET}"]) + "\n"


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
        lines.append(f"| `{variable(name)}` | {_kind(field)} | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def _default(cls: Settings, name: str) -> str:
    """Return the default in force. One that is worked out at start would not stay true; its description tells of it."""
    field = cls.model_fields[name]
    if field.is_required() or field.default_factory is not None or is_secret(cls, name):
        return ""
    return shown(field.default)


def _kind(field: FieldInfo) -> str:
    """Name a setting's type as a person would."""
    return " or ".join(_kinds(field.annotation))


def _kinds(annotation: Any) -> list[str]:
    if get_origin(annotation) is list:
        return ["comma-separated list"]
    arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
    if not arguments:
        names = {"str": "text", "int": "integer", "float": "number", "bool": "true or false", "Path": "path"}
        return [names.get(getattr(annotation, "__name__", ""), "secret text")]
    if isinstance(arguments[0], str):
        return [", ".join(arguments)]
    return [kind for argument in arguments for kind in _kinds(argument)]
