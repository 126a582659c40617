"""Typed settings from the environment, validated once at start (https://12factor.net/config)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as SettingsSourceError

from . import settings_sources

Environment = Literal["development", "test", "staging", "production"]

SECRETS_DIR = Path("/run/secrets")
_SECRETS_IN_URL = re.compile(r"(?<=//)[^/\s]+(?=@)|(?<=[?#])[^\s']+")


def _split(value: object) -> object:
    """Parse `a, b` as `["a", "b"]`, so that lists in the environment need no quotes or brackets. Accept JSON, too."""
    if isinstance(value, str):
        if re.match(r'\s*\[\s*"', value):
            try:
                return json.loads(value)
            except ValueError:
                raise ValueError(
                    "is not valid JSON; separate the items by commas, without brackets and quotes"
                ) from None
        return [settings_sources.without_quotes(item) for item in value.split(",") if item.strip()]
    return value


CommaSeparated = Annotated[list[str], NoDecode, BeforeValidator(_split)]


class BaseChassisSettings(BaseSettings):
    """Environment: what every feature knows, and where settings are read from."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        allow_inf_nan=False,
        secrets_dir=SECRETS_DIR if SECRETS_DIR.is_dir() else None,
        validate_default=True,
        frozen=True,
    )

    environment: Environment = Field(
        "development", description="Where the service runs; `production` enables strict rules."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _without_quotes(cls, value: object) -> object:
        return settings_sources.without_quotes(value) if isinstance(value, str) else value

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    def production_warnings(self) -> list[str]:
        """Return `VARIABLE: problem; remedy` for each value that is valid but should not be used in production.

        A settings class adds its own to those of `super()`.
        """
        return []


class ServiceSettings(BaseChassisSettings):
    """Service"""

    service_name: str = Field("service", min_length=1, description="Name in logs and health reports.")
    service_version: str = Field(
        "0.0.0", min_length=1, description="Version in logs and health reports; by default that of the package."
    )
    host: str = Field("127.0.0.1", description="Address to listen on; `0.0.0.0` in a container.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    debug: bool = Field(False, description="Debug mode of the framework; not allowed in production.")
    startup_timeout_seconds: float = Field(
        30.0, gt=0, description="How long each dependency is retried at start before the service gives up."
    )
    shutdown_drain_seconds: float = Field(
        5.0, ge=0, description="After SIGTERM: how long requests are still served while readiness returns 503."
    )
    shutdown_timeout_seconds: float = Field(
        20.0, gt=0, description="After the drain: how long requests in flight may take to finish."
    )

    @field_validator("debug")
    @classmethod
    def _no_debug_in_production(cls, value: bool, info: ValidationInfo) -> bool:
        if value and in_production(info):
            raise ValueError("must not be on in production; set DEBUG=false")
        return value


class SettingsError(Exception):
    """The settings are invalid; `problems` holds one sentence for each problem."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def in_production(info: ValidationInfo) -> bool:
    """Return whether a field validator checks a production service (`environment` is validated first)."""
    return info.data.get("environment") == "production"


SettingsT = TypeVar("SettingsT", bound=BaseChassisSettings)


def view(settings: BaseChassisSettings, cls: type[SettingsT]) -> SettingsT:
    """Return the settings as the class of one feature, so that a type checker knows their names.

    Raises:
        TypeError: The settings do not include that class.
    """
    if not isinstance(settings, cls):
        raise TypeError(f"{type(settings).__name__} does not inherit from {cls.__module__}.{cls.__name__}")
    return settings


def load(cls: type[SettingsT], **values: Any) -> SettingsT:
    """Read and validate the settings of `cls` from the environment; `values` take precedence.

    Raises:
        SettingsError: Some values are invalid. It lists all problems, each with the variable, the value (never a
            secret) and the remedy.
    """
    names = _variables(cls)
    env_file = _path(values.get("_env_file", cls.model_config.get("env_file")))
    secrets_dir = _path(values.get("_secrets_dir", cls.model_config.get("secrets_dir")))
    problems = settings_sources.unreadable(names, env_file, secrets_dir)
    if problems:
        raise SettingsError(problems)
    problems = settings_sources.ambiguous(names, env_file)
    try:
        settings = cls(**values)
    except ValidationError as error:
        problems += [_sentence(cls, problem) for problem in error.errors()]
    except SettingsSourceError as error:  # not JSON; the text of the error names only the field
        problems.append(f"{error}; write it as JSON, or declare it as CommaSeparated")
    if problems:
        raise SettingsError(problems)
    return settings


def source_warnings(cls: type[BaseChassisSettings]) -> list[str]:
    """Return a sentence for each misspelt variable, and for each line of `.env` that some programs misread."""
    return settings_sources.warnings(_variables(cls), _path(cls.model_config.get("env_file")))


def _variables(cls: type[BaseChassisSettings]) -> list[str]:
    return [variable(name) for name in cls.model_fields]


def _path(value: Any) -> Path | None:
    return Path(value) if isinstance(value, (str, Path)) else None


def variable(name: str) -> str:
    """Return the environment variable that a setting is read from."""
    return name.upper()


def is_secret(cls: type[BaseChassisSettings], name: str) -> bool:
    """Tell whether a setting's value must never be shown."""
    return SecretStr in _types_in(cls.model_fields[name].annotation)


def in_force(settings: BaseChassisSettings) -> dict[str, str]:
    """Return the effective settings by variable, with secrets masked."""
    cls = type(settings)
    return {
        variable(name): "********" if is_secret(cls, name) else shown(getattr(settings, name))
        for name in cls.model_fields
    }


def shown(value: object) -> str:
    """Format a setting's value as it is written in the environment."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def _sentence(cls: type[BaseChassisSettings], problem: Any) -> str:
    """Format one problem as `VARIABLE: what is wrong and what to do (got 'value')`."""
    name = str(problem["loc"][0]) if problem["loc"] else ""
    message = str(problem["msg"]).removeprefix("Value error, ")
    if name not in cls.model_fields:
        return message
    if problem["type"] == "missing":
        return f"{variable(name)}: is not set; {cls.model_fields[name].description}"
    if is_secret(cls, name):
        return f"{variable(name)}: {message}"
    got = shown(problem["input"])
    sentence = f"{variable(name)}: {message} (got {got!r})"
    return _SECRETS_IN_URL.sub("********", sentence) if "//" in got else sentence


def _types_in(annotation: Any) -> set[Any]:
    """Return the types in an annotation: `SecretStr | None` gives both."""
    arguments = getattr(annotation, "__args__", ())
    return set().union(*map(_types_in, arguments)) if arguments else {annotation}
