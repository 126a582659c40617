"""Kubernetes, as the overlay `production` defines it once its secrets are filled in."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from production import FILLED_IN

from deployments import Target

FOLDER = Path("deploy/kubernetes")
PROBES = {"started": "startupProbe", "live": "livenessProbe", "ready": "readinessProbe"}
ASSIGNED = re.compile(r"^(\w+)=(.*)$", re.MULTILINE)
# A secret, after the comment with an example of its value.
EMPTY = re.compile(r"^# For example (.*)\n(\w+)=$", re.MULTILINE)


def read(service: Path) -> Target:
    """Read the pod that serves, and the job or the container that migrates."""
    kubernetes = service / FOLDER
    pod = yaml.safe_load((kubernetes / "base/deployment.yaml").read_text(encoding="utf-8"))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    secrets = secrets_of(kubernetes)
    settings = dict(ASSIGNED.findall((kubernetes / "overlays/production/settings.env").read_text(encoding="utf-8")))
    variables = {row["name"]: row["value"] for part in containers(kubernetes) for row in part.get("env", ())}
    security = container["securityContext"]
    return Target(
        settings=settings | secrets | variables,
        secrets=frozenset(secrets),
        probes={name: container[probe]["httpGet"]["path"] for name, probe in PROBES.items()},
        grace_seconds=pod["terminationGracePeriodSeconds"],
        user=str(pod["securityContext"]["runAsUser"]),
        read_only=security["readOnlyRootFilesystem"],
        dropped_capabilities=frozenset(security["capabilities"]["drop"]),
        limits=container["resources"]["limits"],
        reservations=container["resources"]["requests"],
        migration=tuple(word for part in containers(kubernetes) for word in part.get("args", ()) if word == "migrate"),
    )


def secrets_of(kubernetes: Path) -> dict[str, str]:
    """The secrets, filled in."""
    form = (kubernetes / "base/secrets.env.example").read_text(encoding="utf-8")
    assert not re.search(r"^\w+=.", form, re.MULTILINE), "a secret has a value"
    return {name: FILLED_IN.get(name, example) for example, name in EMPTY.findall(form)}


def containers(kubernetes: Path) -> Iterator[dict[str, Any]]:
    """Yield every container of the base and its components, in pods and in the templates of pods."""
    for path in sorted(kubernetes.rglob("*.yaml")):
        if path.is_relative_to(kubernetes / "overlays"):
            continue
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            pod = document.get("spec", {}).get("template", {}).get("spec", {})
            yield from pod.get("initContainers", ())
            yield from pod.get("containers", ())
