"""Docker Compose, as compose.yaml and the filled in `.env` define it."""

import re
from collections.abc import Mapping
from pathlib import Path

import yaml
from production import filled_in

from deployments import Target

VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?[^}]*\}")


def read(service: Path) -> Target:
    """Read the container `app` and the one that migrates."""
    owners = filled_in(service)
    services = yaml.safe_load((service / "compose.yaml").read_text(encoding="utf-8"))["services"]
    app = services["app"]
    settings = owners | {name: _value(value, owners) for name, value in app["environment"].items()}
    resources = app["deploy"]["resources"]
    migrates = services.get("migrate", {}).get("command", [])
    return Target(
        settings=settings,
        secrets=frozenset(name for name in owners if not re.search(f"^{name}=.", _example(service), re.MULTILINE)),
        probes={"live": _healthcheck(service)},
        grace_seconds=float(app["stop_grace_period"].removesuffix("s")),
        user=app["user"].partition(":")[0],
        read_only=app["read_only"],
        dropped_capabilities=frozenset(app["cap_drop"]),
        limits={"cpu": resources["limits"]["cpus"], "memory": resources["limits"]["memory"]},
        reservations={"cpu": resources["reservations"]["cpus"], "memory": resources["reservations"]["memory"]},
        migration=tuple(migrates or re.findall(r"\bmigrate\b", str(app.get("entrypoint", "")))),
    )


def _example(service: Path) -> str:
    return (service / ".env.production.example").read_text(encoding="utf-8")


def _value(value: object, variables: Mapping[str, str]) -> str:
    """Interpolate as Compose does: a variable of `.env`, else the default."""
    return VARIABLE.sub(lambda found: variables.get(found[1]) or found[2] or "", str(value))


def _healthcheck(service: Path) -> str:
    """The path of the image's HEALTHCHECK, which compose.yaml keeps."""
    image = (service / "Dockerfile").read_text(encoding="utf-8")
    found = re.search(r"HEALTHCHECK .*?'GET', '([^']+)'", image, re.DOTALL)
    assert found is not None
    return found[1]
