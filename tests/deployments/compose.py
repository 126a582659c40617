"""Docker Compose, as compose.yaml, the files in secrets/ and the filled in `.env` define it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from production import filled_in

from deployments import Target

# The innermost variable of an expression: a default may contain another one.
VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^${}]*))?\}")
# `deploy.sh secrets` writes these files. Others in secrets/ are empty until the owner fills them in.
WRITTEN = {"DATABASE_URL", "BACKUP_VERIFY_DATABASE_URL"}
# Variables of `.env` that only compose.yaml and deploy.sh read.
OF_COMPOSE = {"DOMAIN", "BACKUP_COPY_TO"}


def read(service: Path) -> Target:
    """Read the container `app` and the one that migrates."""
    owners = {name: value for name, value in filled_in(service).items() if name not in OF_COMPOSE}
    services = yaml.safe_load((service / "compose.yaml").read_text(encoding="utf-8"))["services"]
    app = services["app"]
    files = {name.upper() for name in app["secrets"]}
    secrets = {name: _url(service, verify="VERIFY" in name) for name in sorted(files & WRITTEN)}
    settings = secrets | owners | {name: _value(value, owners) for name, value in app["environment"].items()}
    resources = app["deploy"]["resources"]
    migrates = services.get("migrate", {}).get("command", [])
    empty = {name for name in owners if not re.search(f"^{name}=.", _example(service), re.MULTILINE)}
    return Target(
        settings=settings,
        secrets=frozenset(empty | files),
        probes={"live": _probe(str(app["healthcheck"]["test"])), "ready": _probe(_proxy(service))},
        grace_seconds=float(app["stop_grace_period"].removesuffix("s")),
        user=app["user"].partition(":")[0],
        read_only=app["read_only"],
        dropped_capabilities=frozenset(app["cap_drop"]),
        limits={"cpu": resources["limits"]["cpus"], "memory": resources["limits"]["memory"]},
        reservations={"cpu": resources["reservations"]["cpus"], "memory": resources["reservations"]["memory"]},
        migration=tuple(migrates),
    )


def _example(service: Path) -> str:
    return (service / ".env.production.example").read_text(encoding="utf-8")


def _proxy(service: Path) -> str:
    return (service / "deploy/compose/Caddyfile").read_text(encoding="utf-8")


def _value(value: Any, variables: Mapping[str, str]) -> str:
    """Interpolate as Compose does: a variable of `.env`, else the default."""
    text = str(value)
    while VARIABLE.search(text):
        text = VARIABLE.sub(lambda found: variables.get(found[1]) or found[2] or "", text)
    return text


def _url(service: Path, verify: bool) -> str:
    """The address that `deploy.sh secrets` writes, with a password of this test."""
    script = (service / "deploy/compose/deploy.sh").read_text(encoding="utf-8")
    found = re.search(r'write_secret database_url "(.*)"', script)
    assert found is not None
    return re.sub(r"\$\{DATABASE_PASSWORD[^}]*\}", "4f1d09b6c2e8", found[1]) + "_verify" * verify


def _probe(text: str) -> str:
    found = re.search(r"/health/\w+", text)
    assert found is not None
    return found[0]
