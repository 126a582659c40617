"""Refuses requests for a host that is not this service's (`Host` header attacks, DNS rebinding)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, ValidationInfo, field_validator

from .settings import BaseChassisSettings, CommaSeparated, in_production

_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_REMEMBERED = 1000


class Settings(BaseChassisSettings):
    """Hosts"""

    allowed_hosts: CommaSeparated = Field(
        list(_LOCAL),
        description="Host names that requests may ask for; `*.example.com` takes subdomains, `*` everything.",
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _production_names_its_hosts(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if not value:
            raise ValueError("names no host; set it to the names that clients use, such as api.example.com")
        if in_production(info) and ("*" in value or value == list(_LOCAL)):
            raise ValueError("must name the hosts that clients use in production, such as api.example.com")
        return value


class AllowedHosts:
    """Answers whether a `Host` header is allowed; the port does not matter."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._everything = "*" in allowed
        self._names = frozenset(name.lower() for name in allowed)
        self._suffixes = tuple(name[1:].lower() for name in allowed if name.startswith("*."))
        self._known: set[str] = set()

    def __call__(self, header: str | None) -> bool:
        if self._everything or header in self._known:
            return True
        if header is None or not self._matches(header.lower()):
            return False
        if len(self._known) < _REMEMBERED:
            self._known.add(header)
        return True

    def _matches(self, host: str) -> bool:
        name, colon, port = host.rpartition(":")
        name = name if colon and port.isdigit() else host
        return name in self._names or name.endswith(self._suffixes)
