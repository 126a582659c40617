"""Finds the package under test, so that the text of the tests is the same in every service."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from . import servers

ROOT = Path(__file__).parents[1]
PACKAGE = next((ROOT / "src").glob("*/chassis")).parent.name

# Environment variables in which the tests run: give a value to each setting of yours that has no default.
ENVIRONMENT: dict[str, str] = {}
# What tests send is no flood, and a machine that is busy with tests no outage: those of limits bring their own.
PATIENT = {
    "RATE_LIMIT_DEFAULT": "1000000/minute",
    "HEALTH_CHECK_TIMEOUT_SECONDS": "60",
    "DATABASE_CONNECT_TIMEOUT_SECONDS": "60",
    "DATABASE_STATEMENT_TIMEOUT_SECONDS": "60",
    "DATABASE_POOL_TIMEOUT_SECONDS": "60",
}


def module(name: str) -> Any:
    """Import a module of the package: `module("chassis.errors")`."""
    return import_module(f"{PACKAGE}.{name}")


def program() -> Any:
    """Return what `python -m <package>` runs, to run its commands in this process."""
    features = module("chassis.features")
    settings = module("settings").Settings
    return module("chassis.cli").Program(f"{PACKAGE}.main:create_app", settings, features.FEATURES, features.serve)


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """Return an environment without your settings; the data are those of the test that runs in `folder`."""
    settings = {name.upper() for name in module("settings").Settings.model_fields}
    inherited = {name: value for name, value in os.environ.items() if name.upper() not in settings}
    data = servers.settings(ROOT / "src" / PACKAGE / "chassis", folder)
    return inherited | data | PATIENT | ENVIRONMENT | variables
