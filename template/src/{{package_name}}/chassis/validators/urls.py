"""A type for URLs of public hosts, as far as the text of the URL shows.

A host name is checked as text and is not resolved, so a name that its owner points to a private address passes. Before
this service calls such a URL, an egress rule of the network must reject private addresses: a check here would resolve
the name once, and the call would resolve it again, with another result (DNS rebinding).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from pydantic import AnyUrl, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from .text import TextType

_MAX_CHARACTERS = 2083
# Names that do not exist in the public DNS (RFC 6761, RFC 6762, RFC 8375, and ICANN's reservation of `internal`).
_PRIVATE_SUFFIXES = ("localhost", "local", "internal", "home.arpa", "lan", "intranet", "corp", "home", "private")
# Names in /etc/hosts, and those of services in a cluster of Kubernetes.
_LOCAL_SUFFIXES = ("localdomain", "localdomain6", "svc")
# Site-local addresses, those of translators in a private network (RFC 8215, RFC 7915), and the assignments of RFC 6890,
# which old patch releases of Python call global. Azure's platform has a public address in every virtual machine:
# https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
_PRIVATE_NETWORKS = tuple(
    map(ip_network, ("fec0::/10", "64:ff9b:1::/48", "::ffff:0:0:0/96", "192.0.0.0/24", "168.63.129.16/32"))
)
# An IPv4 address in the last 32 bits: translated by a gateway, or of the obsolete compatible form.
_NAT64, _COMPATIBLE = IPv6Network("64:ff9b::/96"), IPv6Network("::/96")
_url = TypeAdapter(AnyUrl)


@dataclass(frozen=True)
class PublicUrl(TextType):
    """An absolute URL without credentials, returned in canonical form.

    Args:
        schemes: The allowed schemes.
        hosts: The allowed hosts, each with its subdomains; by default every host.
        private: Whether private, loopback and link-local addresses and local names are allowed.
    """

    schemes: Sequence[str] = ("https", "http")
    hosts: Sequence[str] = ()
    private: bool = False

    def check(self, value: str) -> str:
        url = _parse(value)
        if url.scheme not in self.schemes:
            raise PydanticCustomError(
                "url_scheme", "Use a URL that begins with {schemes}.", {"schemes": ", ".join(self.schemes)}
            )
        # The parser brings only hosts of the schemes of browsers into canonical form.
        host = ((url.host and _parse(f"https://{url.host}").host) or "").rstrip(".")
        if not host or url.username is not None or url.password is not None:
            raise PydanticCustomError("url", "This is not a valid URL with a host and without credentials.")
        if self.hosts and not any(_is_within(host, allowed) for allowed in self.hosts):
            raise PydanticCustomError("url_host", "Use a URL of {hosts}.", {"hosts": ", ".join(self.hosts)})
        if not self.private and _is_private(host):
            raise PydanticCustomError("url_private", "Use a URL of a public host.")
        return str(url)

    def json_schema(self) -> dict[str, Any]:
        return {"format": "uri", "maxLength": _MAX_CHARACTERS}


def _parse(value: str) -> AnyUrl:
    """Parse a URL as browsers do (WHATWG): `http://0x7f.1` is `http://127.0.0.1/`."""
    # The parser would remove tabs and line breaks, and other programs do not.
    if len(value) <= _MAX_CHARACTERS and value.isprintable() and " " not in value and "\\" not in value:
        try:
            return _url.validate_python(value)
        except ValidationError:
            pass
    raise PydanticCustomError("url", "This is not a valid URL.")


def _is_within(host: str, parent: str) -> bool:
    return host == parent or host.endswith(f".{parent}")


def _is_private(host: str) -> bool:
    try:
        address = _reached(ip_address(host.strip("[]")))
    except ValueError:
        return "." not in host or any(_is_within(host, suffix) for suffix in _PRIVATE_SUFFIXES + _LOCAL_SUFFIXES)
    return address.is_multicast or not address.is_global or any(address in network for network in _PRIVATE_NETWORKS)


def _reached(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address contains, if it has a form that gateways translate."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64 or address in _COMPATIBLE:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, address))[1]
