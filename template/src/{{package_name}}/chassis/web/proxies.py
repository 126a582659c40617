"""The client's address and scheme behind proxies: forwarded headers count only if a trusted proxy sent them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

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


# An address with its port, or an IPv6 address in brackets, as proxies write them.
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([^:]+):\d+")

# Some proxies name the scheme of a WebSocket.
_SCHEMES = {b"https": "https", b"wss": "https", b"http": "http", b"ws": "http"}


@lru_cache(maxsize=4096)
def client_ip(text: str) -> str | None:
    """Return the canonical form of an address: without port, brackets and zone, and IPv4 if it is IPv4-mapped.

    Return None if the text is not an address. All code that compares, counts or logs addresses uses this form.
    """
    match = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address((match[1] or match[2] if match else text).partition("%")[0])
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def _network(text: str) -> IPv4Network | IPv6Network:
    network = ip_network(text, strict=False)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    return ip_network((mapped, max(0, network.prefixlen - 96))) if mapped else network


class TrustedProxies:
    """Resolves the client's address and scheme from `X-Forwarded-For` and `X-Forwarded-Proto`."""

    def __init__(self, networks: Sequence[str]) -> None:
        trusted = [_network(network) for network in networks]
        self._is_trusted = lru_cache(maxsize=4096)(
            lambda address: any(ip_address(address) in network for network in trusted)
        )

    def resolve(self, peer: str, scheme: str, headers: Mapping[bytes, bytes]) -> tuple[str, str]:
        """Return (address, scheme): the nearest address that is not one of the trusted proxies."""
        client = client_ip(peer)
        if client is None or not self._is_trusted(client):
            return client or peer, scheme
        # Each proxy in a row may append its scheme. If one was reached over HTTPS, the request counts as HTTPS.
        schemes = {sent.strip() for sent in headers.get(b"x-forwarded-proto", b"").lower().split(b",")}
        scheme = next((known for sent, known in _SCHEMES.items() if sent in schemes), scheme)
        sent_addresses = headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")
        for sent in filter(None, map(str.strip, reversed(sent_addresses))):
            address = client_ip(sent)
            if address is None:
                break
            client = address
            if not self._is_trusted(client):
                break
        return client, scheme
