"""Finds the package under test, so that the tests have the same text in every service."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from . import servers

ROOT = Path(__file__).parents[1]
PACKAGE = next((ROOT / "src").glob("*/chassis")).parent.name
CHASSIS = ROOT / "src" / PACKAGE / "chassis"

# The values in `tests/settings.env`, which `make smoke` reads as well. A service that is older than the file lacks it.
_VALUES = ROOT / "tests" / "settings.env"
ENVIRONMENT = dict(
    line.split("=", 1)
    for line in (_VALUES.read_text(encoding="utf-8") if _VALUES.is_file() else "").splitlines()
    if line and not line.startswith("#")
)
# No test may fail because the machine is busy. Tests of limits and timeouts set their own values.
GENEROUS = {
    "RATE_LIMIT_DEFAULT": "1000000/minute",
    "HEALTH_CHECK_TIMEOUT_SECONDS": "60",
    "DATABASE_CONNECT_TIMEOUT_SECONDS": "60",
    "DATABASE_STATEMENT_TIMEOUT_SECONDS": "60",
    "DATABASE_POOL_TIMEOUT_SECONDS": "60",
}
# Many services run at once.
ANY_PORT = {"METRICS_PORT": "0"}
# Unbuffered output would hide bugs of a service that writes to a pipe or a file, as it does in production.
_NOT_INHERITED = {"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}


def module(name: str) -> Any:
    """Import a module of the package, such as `module("chassis.errors")`."""
    return import_module(f"{PACKAGE}.{name}")


def program() -> Any:
    """Return the program behind `python -m <package>`, to run its commands in this process."""
    features = module("chassis.features")
    settings = module("settings").Settings
    return module("chassis.cli").Program(f"{PACKAGE}.main:create_app", settings, features.FEATURES, features.serve)


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """Return an environment without your settings; its data belongs to the test that runs in `folder`."""
    settings = {name.upper() for name in module("settings").Settings.model_fields} | _NOT_INHERITED
    inherited = {name: value for name, value in os.environ.items() if name.upper() not in settings}
    return inherited | servers.settings(CHASSIS, folder) | GENEROUS | ANY_PORT | ENVIRONMENT | variables
