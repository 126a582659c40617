"""Read the settings and limits that each deployment target gives the service, from the files of the target.

`deployments/<target>.py` has `read(service)`, which returns a `Target`. tests/test_deployments.py applies one contract
to all targets.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """One container that serves requests, as its deployment target starts it."""

    # Environment variables, as the container gets them after the owner has filled in what must be filled in.
    settings: Mapping[str, str]
    # The names of those whose values come from a secret store. No file of the repository contains their values.
    secrets: frozenset[str]
    # `live`, `started` and `ready`, and the path that the target requests for each. A target may not have all three.
    probes: Mapping[str, str]
    # How long the target waits between SIGTERM and SIGKILL.
    grace_seconds: float
    user: str
    read_only: bool
    dropped_capabilities: frozenset[str]
    # `cpu` and `memory`, in the target's own notation.
    limits: Mapping[str, str]
    reservations: Mapping[str, str]
    # The command that runs once for each release, before the release gets traffic. Empty: the service has no schema.
    migration: tuple[str, ...]


def read(target: str, service: Path) -> Target:
    """Read what a target sets on a rendered service."""
    found: Target = importlib.import_module(f"deployments.{target}").read(service)
    return found
