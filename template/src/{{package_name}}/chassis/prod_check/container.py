"""What runs the service: an image without root, containers with limits and probes."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from .row import Finding, Row, Subject, not_checked, unknown_before_valid, verdict

_PROBE = "/health/live"


def _dockerfile(subject: Subject) -> str | None:
    path = subject.folder / "Dockerfile"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _services(subject: Subject) -> dict[str, Any]:
    """Return the containers of compose.yaml that stay: one that runs once is over before anybody asks it."""
    path = subject.folder / "compose.yaml"
    if not path.is_file():
        return {}
    # A development dependency, as whatever judges files and not the running service.
    services = import_module("yaml").safe_load(path.read_text(encoding="utf-8"))["services"]
    return {name: service for name, service in services.items() if service.get("restart") != "no"}


def _image_user(subject: Subject) -> Finding:
    dockerfile = _dockerfile(subject)
    if dockerfile is None:
        return not_checked("there is no Dockerfile here")
    last_stage = re.split(r"^FROM ", dockerfile, flags=re.MULTILINE)[-1]
    users = re.findall(r"^USER (\S+)", last_stage, re.MULTILINE)
    user = users[-1] if users else "root"
    # By number: Kubernetes cannot tell whether a name is root.
    return verdict(user.partition(":")[0].isdigit() and not user.startswith("0"), f"the image runs as user {user}")


def _limits(subject: Subject) -> Finding:
    services = _services(subject)
    if not services:
        return not_checked("there is no compose.yaml here")
    limits = {
        name: service.get("deploy", {}).get("resources", {}).get("limits", {}) for name, service in services.items()
    }
    without = [name for name, limit in limits.items() if not {"cpus", "memory"} <= limit.keys()]
    said = ", ".join(
        f"{name} {limit['cpus']} CPU {limit['memory']}" for name, limit in limits.items() if name not in without
    )
    return verdict(not without, f"no limit for {', '.join(without)}" if without else said)


def _probes(subject: Subject) -> Finding:
    dockerfile = _dockerfile(subject)
    if dockerfile is None:
        return not_checked("there is no Dockerfile here")
    health_check = re.search(r"^HEALTHCHECK (?:.*\\\n)*.*", dockerfile, re.MULTILINE)
    if not health_check or _PROBE not in health_check[0]:
        return verdict(False, f"the image's HEALTHCHECK does not ask {_PROBE}")
    probes = {name: service.get("healthcheck", {}) for name, service in _services(subject).items()}
    without = [name for name, probe in probes.items() if not probe or probe.get("disable")]
    asked = f"the image's HEALTHCHECK asks {_PROBE}"
    return verdict(not without, f"{asked}, but nobody asks {', '.join(without)}" if without else asked)


def _grace(subject: Subject) -> Finding:
    services = {name: service for name, service in _services(subject).items() if "ports" in service}
    if not services:
        return not_checked("no compose.yaml here starts what clients call")
    if subject.settings is None:
        return unknown_before_valid()
    needed = subject.settings.shutdown_drain_seconds + subject.settings.shutdown_timeout_seconds
    said = {name: str(service.get("stop_grace_period", "10s")) for name, service in services.items()}
    short = [f"{name} {period}" for name, period in said.items() if _seconds(period) < needed]
    return verdict(not short, f"stopping takes up to {needed:g} s; killed after {', '.join(short or said.values())}")


def _seconds(period: str) -> float:
    """Return the seconds of a duration as Compose writes it, such as `1m30s`."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|[hms])", period))


ROWS = (
    Row("image-user", 7, "The image does not run as root", "end the Dockerfile with `USER 1000`", _image_user),
    Row(
        "container-limits",
        5,
        "Every container has limits of processor time and memory",
        "set deploy.resources.limits in compose.yaml, for the services that are named",
        _limits,
    ),
    Row(
        "probes",
        5,
        "Somebody notices when a container hangs",
        f"have HEALTHCHECK in the Dockerfile ask {_PROBE}, and give each service in compose.yaml a healthcheck",
        _probes,
    ),
    Row(
        "grace",
        3,
        "A container is not killed before it has finished what it had begun",
        "set stop_grace_period to more than SHUTDOWN_DRAIN_SECONDS and SHUTDOWN_TIMEOUT_SECONDS together",
        _grace,
    ),
)
