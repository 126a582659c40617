"""Writes `.env.example` and the table of settings from the settings classes, so that neither can drift."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from .settings import BaseChassisSettings, is_secret, shown, variable

Section = tuple[str, list[tuple[str, FieldInfo]]]


def sections(cls: type[BaseChassisSettings]) -> Iterator[Section]:
    """Yield the settings class by class, the chassis's first; a class's title is the first line of its docstring."""
    done: set[str] = set()
    for owner in reversed(cls.__mro__):
        if not issubclass(owner, BaseChassisSettings):
            continue
        own = [name for name in owner.__annotations__ if name in cls.model_fields and name not in done]
        done.update(own)
        if own:
            title = (owner.__doc__ or owner.__name__).strip().splitlines()[0].rstrip(".")
            yield title.partition(":")[0], [(name, cls.model_fields[name]) for name in own]


def env_example(cls: type[BaseChassisSettings]) -> str:
    """Return the text of `.env.example`: every setting, commented out where it has a default."""
    return "\n".join(env_section(cls, section) for section in sections(cls))


def env_section(cls: type[BaseChassisSettings], section: Section) -> str:
    title, settings = section
    lines = [f"# --- {title} ---"]
    for name, field in settings:
        lines.append(f"# {field.description} ({_kind(field)})")
        lines.append(f"{'' if field.is_required() else '# '}{variable(name)}={_default(cls, name)}")
    return "\n".join(lines) + "\n"


def markdown(cls: type[BaseChassisSettings]) -> str:
    """Return the tables of `docs/configuration.md`."""
    return "\n".join(markdown_section(cls, section) for section in sections(cls))


def markdown_section(cls: type[BaseChassisSettings], section: Section) -> str:
    title, settings = section
    lines = [f"## {title}", "", "| variable | type | default | meaning |", "|---|---|---|---|"]
    for name, field in settings:
        default = "required" if field.is_required() else f"`{_default(cls, name)}`" if _default(cls, name) else ""
        lines.append(f"| `{variable(name)}` | {_kind(field)} | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def _default(cls: type[BaseChassisSettings], name: str) -> str:
    field = cls.model_fields[name]
    if field.is_required() or is_secret(cls, name):
        return ""
    return shown(field.get_default(call_default_factory=True, validated_data={}))


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
