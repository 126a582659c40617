"""Finds the package under test, so that the text of the tests is the same in every service."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from . import servers

ROOT = Path(__file__).parents[1]
PACKAGE = next((ROOT / "src").glob("*/chassis")).parent.name

# What tests send is no flood: those of the limits bring their own.
_UNLIMITED = {"RATE_LIMIT_DEFAULT": "1000000/minute"}
# Environment variables in which the tests run: give a value to each setting of yours that has no default.
ENVIRONMENT: dict[str, str] = {}


def module(name: str) -> Any:
    """Import a module of the package: `module("chassis.errors")`."""
    return import_module(f"{PACKAGE}.{name}")


def program() -> Any:
    """Return what `python -m <package>` runs, to run its commands in this process."""
    features = module("chassis.features")
    settings = module("settings").Settings
    return module("chassis.cli").Program(f"{PACKAGE}.main:create_app", settings, features.FEATURES, features.serve)


def _caches(folder: Path) -> dict[str, str]:
    """Return how the service finds the servers that it caches in, if there are any."""
    found: dict[str, str] = {}
    for each in iter_modules(servers.__path__):
        server = import_module(f"{servers.__name__}.{each.name}")
        found |= server.settings(folder) if hasattr(server, "settings") else {}
    return found


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """Return an environment without your settings: the data are in `folder`, or in servers of the tests' own."""
    settings = {name.upper() for name in module("settings").Settings.model_fields}
    inherited = {name: value for name, value in os.environ.items() if name.upper() not in settings}
    data = {"DATABASE_URL": f"sqlite:///{folder}/test.db"} | _caches(folder)
    return inherited | data | _UNLIMITED | ENVIRONMENT | variables
