"""The client's address and scheme behind proxies: forwarded headers count only if a trusted proxy sent them."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from pydantic import Field, field_validator

from ..settings import BaseChassisSettings, CommaSeparated


class Settings(BaseChassisSettings):
    """Proxies"""

    trusted_proxies: CommaSeparated = Field(
        [],
        description="Networks of your proxies, such as `10.0.0.0/8`; forwarded headers from others are ignored.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: list[str]) -> list[str]:
        for item in value:
            try:
                ip_network(item, strict=False)
            except ValueError:
                raise ValueError(f"{item!r} is not an address or network; write it like 10.0.0.0/8") from None
        return value

    def production_warnings(self) -> list[str]:
        problem = "TRUSTED_PROXIES: is empty, so all clients have the address of the proxy in front; name the proxy"
        return [*super().production_warnings(), *([] if self.trusted_proxies else [problem])]


class TrustedProxies:
    """Resolves the client's address and scheme from `X-Forwarded-For` and `X-Forwarded-Proto`."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ip_network(network, strict=False) for network in networks]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def resolve(
        self, peer: str, scheme: str, forwarded_for: str | None, forwarded_proto: str | None
    ) -> tuple[str, str]:
        """Return (address, scheme): the nearest address that is not one of the trusted proxies."""
        if not self._is_trusted(peer):
            return peer, scheme
        if forwarded_proto:
            sent = forwarded_proto.rpartition(",")[2].strip().lower()
            scheme = sent if sent in ("http", "https") else scheme
        client = peer
        for address in reversed((forwarded_for or "").split(",")):
            if not _is_address(address.strip()):
                break
            client = address.strip()
            if not self._is_trusted(client):
                break
        return client, scheme

    def _is_trusted(self, address: str) -> bool:
        return _is_address(address) and any(ip_address(address) in network for network in self._networks)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
