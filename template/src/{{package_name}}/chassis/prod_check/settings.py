"""Settings in production form: strict rules on, hosts and origins named, limits in force."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from .. import settings as chassis_settings
from ..settings import BaseChassisSettings, SettingsError
from .row import Finding, Row, Subject, unknown_before_valid, verdict

_LONGEST_REQUEST_SECONDS = 120
_LARGEST_BODY_BYTES = 100_000_000


def read(cls: type[BaseChassisSettings], env_file: Path | None) -> tuple[Any, list[str], Mapping[str, str]]:
    """Return the settings that a process would have (None if invalid), their problems, and its environment."""
    from_file = {name: value for name, value in dotenv_values(env_file).items() if value} if env_file else {}
    variables = from_file | os.environ
    try:
        return chassis_settings.load(cls, **({"_env_file": env_file} if env_file else {})), [], variables
    except SettingsError as error:
        return None, error.problems, variables


def warnings(settings: Any) -> list[str]:
    """Return what valid settings still lack in production, a sentence each, with the remedy."""
    return [f"{row.claim} does not hold: {row.remedy}" for row, holds in _OF_VALUES if not holds(settings)]


def _unproblematic(*variables: str) -> Callable[[Subject], Finding]:
    """Return a check that passes when no problem is about these variables: the strict rules judge their values."""

    def check(subject: Subject) -> Finding:
        about = [problem for problem in subject.problems if problem.startswith(tuple(f"{v}:" for v in variables))]
        return verdict(not about, "; ".join(about) or _in_force(subject, variables))

    return check


def _in_force(subject: Subject, variables: tuple[str, ...]) -> str:
    if subject.settings is None:  # for another reason
        return f"no problem with {', '.join(variables)}"
    values = chassis_settings.in_force(subject.settings)
    return ", ".join(f"{name}={values[name]}" for name in variables)


def _is_production(subject: Subject) -> Finding:
    environment = subject.variables.get("ENVIRONMENT", "development")
    judged = ("DEBUG:", "ALLOWED_HOSTS:", "CORS_ALLOWED_ORIGINS:", "CORS_ALLOW_CREDENTIALS:")
    others = [problem for problem in subject.problems if not problem.startswith(judged)]
    return verdict(environment == "production" and not others, "; ".join([f"ENVIRONMENT={environment}", *others]))


def _when_valid(holds: Callable[[Any], bool], *names: str) -> Callable[[Subject], Finding]:
    """Return a check of values, which is possible only once all of them are valid."""

    def check(subject: Subject) -> Finding:
        if subject.settings is None:
            return unknown_before_valid()
        return verdict(holds(subject.settings), _in_force(subject, tuple(map(chassis_settings.variable, names))))

    return check


def _names_proxies(settings: Any) -> bool:
    return bool(settings.trusted_proxies)


def _has_limits(settings: Any) -> bool:
    bounded = settings.request_timeout_seconds <= _LONGEST_REQUEST_SECONDS
    return bool(bounded and settings.max_request_body_bytes <= _LARGEST_BODY_BYTES and settings.rate_limit_enabled)


_PROXIES = Row(
    "proxies",
    3,
    "The proxy in front is named, so clients have their own address and answers say that they go over HTTPS",
    "set TRUSTED_PROXIES to the addresses or networks of the proxy",
    _when_valid(_names_proxies, "trusted_proxies"),
)
_LIMITS = Row(
    "request-limits",
    4,
    f"A request takes {_LONGEST_REQUEST_SECONDS} s and {_LARGEST_BODY_BYTES} bytes at most, and a client has a rate",
    "lower REQUEST_TIMEOUT_SECONDS and MAX_REQUEST_BODY_BYTES, and set RATE_LIMIT_ENABLED=true",
    _when_valid(_has_limits, "request_timeout_seconds", "max_request_body_bytes", "rate_limit_enabled"),
)
# Rows about values that are valid, but not what production needs.
_OF_VALUES = ((_PROXIES, _names_proxies), (_LIMITS, _has_limits))

ROWS = (
    Row(
        "settings",
        8,
        "The settings are valid and those of production",
        "copy .env.production.example to .env.production and fill it in, or name another file with --env-file",
        _is_production,
    ),
    Row("debug", 5, "Debugging is off", "set DEBUG=false", _unproblematic("DEBUG")),
    Row(
        "hosts",
        5,
        "The hosts that clients use are named",
        "set ALLOWED_HOSTS to the names that clients use, such as api.example.com",
        _unproblematic("ALLOWED_HOSTS"),
    ),
    Row(
        "cors",
        4,
        "Only named web pages may call",
        "set CORS_ALLOWED_ORIGINS to the origins of your pages, or to nothing",
        _unproblematic("CORS_ALLOWED_ORIGINS", "CORS_ALLOW_CREDENTIALS"),
    ),
    _PROXIES,
    _LIMITS,
)
