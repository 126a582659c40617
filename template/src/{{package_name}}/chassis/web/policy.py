"""Rejects unknown hosts, large bodies and ambiguous headers before the framework runs. Answers CORS preflights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import Field, ValidationInfo, field_validator

from .. import errors
from ..app import Chassis, Scope
from ..request_context import RequestContext, new_context
from ..settings import BaseChassisSettings, CommaSeparated, in_production
from .headers import RawHeaders
from .problems import RawResponse
from .proxies import Settings as ProxySettings
from .proxies import TrustedProxies

# The server sets this key in the scope if the request headers are over their limit.
HEAD_TOO_LARGE = "chassis.head_too_large"

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
# `*`, a host name, `*.` before a name for its subdomains, or an address. A scheme or a port would match no request.
_HOST = re.compile(r"\*|(\*\.)?[\w.-]+|\[[\da-f:.]+\]", re.ASCII | re.IGNORECASE)
_LARGE_BODY_BYTES = 100_000_000
_VARY = (b"vary", b"Origin")
# A request that repeats one of these headers is ambiguous: a proxy and the service may each read a different value.
_REJECTED_IF_REPEATED = frozenset({b"host", b"content-length", b"transfer-encoding", b"content-type"})
# If an id or a credential is repeated, no value is used: the service creates an id, and finds no credential.
_DROPPED_IF_REPEATED = frozenset(
    {b"authorization", b"x-api-key", b"x-request-id", b"x-correlation-id", b"traceparent", b"origin"}
)


class LimitSettings(BaseChassisSettings):
    """Limits"""

    max_request_body_bytes: int = Field(
        1_000_000, gt=0, description="Maximum size of a request body; a larger one gets 413."
    )

    def production_warnings(self) -> list[str]:
        problem = f"MAX_REQUEST_BODY_BYTES: more than {_LARGE_BODY_BYTES} bytes fill the memory; set a smaller limit"
        is_large = self.max_request_body_bytes > _LARGE_BODY_BYTES
        return [*super().production_warnings(), *([problem] if is_large else [])]


class HostSettings(BaseChassisSettings):
    """Hosts"""

    allowed_hosts: CommaSeparated = Field(
        list(_LOCAL_HOSTS),
        description="Host names that clients may use; `*.example.com` allows subdomains, `*` every host.",
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _production_names_its_hosts(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if not value:
            raise ValueError("is empty; list the names that clients use, such as api.example.com")
        for host in value:
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is not a host name; use the form api.example.com, without scheme or port")
        if in_production(info) and ("*" in value or value == list(_LOCAL_HOSTS)):
            raise ValueError("must name the hosts that clients use in production, such as api.example.com")
        return value


class CorsSettings(BaseChassisSettings):
    """CORS"""

    cors_allowed_origins: CommaSeparated = Field(
        [], description="Origins whose pages may call the service, such as `https://app.example.com`; none by default."
    )
    cors_allow_credentials: bool = Field(False, description="Let browsers send cookies and credentials.")
    cors_allowed_headers: CommaSeparated = Field(
        ["authorization", "content-type", "x-request-id"],
        description="Request headers that pages may set.",
    )
    cors_max_age_seconds: int = Field(600, ge=0, description="How long browsers may cache preflight responses.")

    @field_validator("cors_allowed_origins")
    @classmethod
    def _no_wildcard_in_production(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if in_production(info) and "*" in value:
            raise ValueError("must not be * in production; list the origins, such as https://app.example.com")
        for origin in value:
            if origin != "*" and ("://" not in origin or origin.endswith("/")):
                raise ValueError(
                    f"{origin!r} is not an origin; write it like https://app.example.com, without a trailing slash"
                )
        return value

    @field_validator("cors_allow_credentials")
    @classmethod
    def _credentials_need_origins(cls, value: bool, info: ValidationInfo) -> bool:
        if value and "*" in info.data.get("cors_allowed_origins", []):
            raise ValueError("cannot be combined with CORS_ALLOWED_ORIGINS=*; list the origins")
        return value


class RequestHeaders(Mapping[str, str]):
    """All headers of a request by lower-case name, decoded when they are read; `raw` has them as they were sent."""

    __slots__ = ("raw",)

    def __init__(self, raw: dict[bytes, bytes]) -> None:
        self.raw = raw

    def __getitem__(self, name: str) -> str:
        return self.raw[name.encode("latin-1")].decode("latin-1")

    def get(self, name: str, default: Any = None) -> Any:
        """Return a header. The inherited method raises and catches an exception for each that is missing."""
        value = self.raw.get(name.encode("latin-1"))
        return default if value is None else value.decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self.raw)

    def __len__(self) -> int:
        return len(self.raw)


class Request(NamedTuple):
    """A request as the policy sees it."""

    context: RequestContext
    headers: RequestHeaders
    cors_headers: RawHeaders
    # An error, or the response to a CORS preflight request, that replaces the application's response.
    rejection: errors.ServiceError | RawResponse | None


def host_check(allowed: Sequence[str]) -> Callable[[bytes | None], bool]:
    """Return a function that tells whether a `Host` header is allowed. Case, port and a final dot do not matter."""
    names = frozenset(name.lower().removesuffix(".") for name in allowed)
    suffixes = tuple(name[1:] for name in names if name.startswith("*."))

    @lru_cache(maxsize=1000)
    def is_allowed(header: bytes | None) -> bool:
        host = (header or b"").decode("latin-1").lower()
        name, colon, port = host.rpartition(":")
        name = (name if colon and port.isdigit() else host).removesuffix(".")
        return "*" in names or name in names or name.endswith(suffixes)

    return is_allowed


class Cors:
    """Cross-origin requests from browsers (Fetch standard, CORS protocol)."""

    def __init__(self, settings: CorsSettings) -> None:
        self._origins = frozenset(origin.encode() for origin in settings.cors_allowed_origins)
        self._allowed = [_VARY, (b"access-control-expose-headers", b"x-request-id")]
        if settings.cors_allow_credentials:
            self._allowed.append((b"access-control-allow-credentials", b"true"))
        self._preflight = {
            "access-control-allow-methods": "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
            "access-control-allow-headers": ", ".join(settings.cors_allowed_headers),
            "access-control-max-age": str(settings.cors_max_age_seconds),
        }

    def headers(self, origin: bytes | None) -> RawHeaders:
        """Return the CORS headers of a response; `Vary` makes caches store one response per origin."""
        if origin is None or not self._allows(origin):
            return [_VARY]
        return [(b"access-control-allow-origin", origin), *self._allowed]

    def preflight(self, method: str, headers: Mapping[bytes, bytes]) -> RawResponse | None:
        """Return the response to a preflight request, or None for any other request."""
        if method != "OPTIONS" or b"origin" not in headers or b"access-control-request-method" not in headers:
            return None
        return RawResponse(204, self._preflight if self._allows(headers[b"origin"]) else {}, b"")

    def _allows(self, origin: bytes) -> bool:
        return b"*" in self._origins or origin in self._origins


def route_path(scope: Scope) -> str:
    """Return the path of a request without the root path of the server, which is part of it in ASGI."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


class RequestPolicy:
    """Creates the context of each request and rejects requests that must not reach the application."""

    def __init__(self, chassis: Chassis) -> None:
        self.max_body_bytes = chassis.settings_as(LimitSettings).max_request_body_bytes
        self._is_allowed_host = host_check(chassis.settings_as(HostSettings).allowed_hosts)
        cors = chassis.settings_as(CorsSettings)
        self._cors = Cors(cors) if cors.cors_allowed_origins else None
        self._proxies = TrustedProxies(chassis.settings_as(ProxySettings).trusted_proxies)

    def begin(self, scope: Scope) -> Request:
        """Return a request with its context, its headers, and its rejection if it must not reach the application.

        The scope is changed: repeated headers are resolved, and `client` is the address of the client behind the
        proxies.
        """
        raw = dict(scope["headers"])
        is_ambiguous = False
        if len(raw) != len(scope["headers"]):
            scope["headers"], is_ambiguous = _merge_repeated(scope["headers"])
            raw = dict(scope["headers"])
        rejection: errors.ServiceError | RawResponse | None
        if HEAD_TOO_LARGE in scope:
            rejection = errors.HeadersTooLargeError()
        elif is_ambiguous:
            rejection = errors.BadRequestError("A header that may occur only once is repeated.")
        else:
            rejection = self._reject(scope["method"], raw)
        cors_headers = self._cors.headers(raw.get(b"origin")) if self._cors else []
        return Request(self._context(scope, raw), RequestHeaders(raw), cors_headers, rejection)

    def _context(self, scope: Scope, raw: dict[bytes, bytes]) -> RequestContext:
        peer = scope["client"][0] if scope.get("client") else ""
        address, scope["scheme"] = self._proxies.resolve(peer, scope.get("scheme", "http"), raw)
        if address != peer:
            scope["client"] = (address, 0)
        return new_context(
            scope["method"],
            route_path(scope),
            client_address=address,
            scheme=scope["scheme"],
            request_id=raw.get(b"x-request-id"),
            correlation_id=raw.get(b"x-correlation-id"),
            traceparent=raw.get(b"traceparent"),
            tracestate=raw.get(b"tracestate"),
        )

    def _reject(self, method: str, raw: dict[bytes, bytes]) -> errors.ServiceError | RawResponse | None:
        if not self._is_allowed_host(raw.get(b"host")):
            return errors.BadRequestError("This host is not served here.")
        length = raw.get(b"content-length")
        if length is not None and not length.isdigit():
            return errors.BadRequestError("The Content-Length is not a number.")
        if length is not None and int(length.lstrip(b"0")[:19] or b"0") > self.max_body_bytes:
            return errors.PayloadTooLargeError()
        return self._cors.preflight(method, raw) if self._cors else None


def _merge_repeated(raw: RawHeaders) -> tuple[RawHeaders, bool]:
    """Resolve repeated headers by one rule, so that policy, hooks and framework read the same value.

    Repeated headers are joined in order (RFC 9110, 5.3), ids and credentials are dropped. Two hosts are ambiguous.

    Returns:
        The headers without these repetitions, and whether the request is ambiguous.
    """
    values: dict[bytes, list[bytes]] = {}
    for name, value in raw:
        values.setdefault(name, []).append(value)
    repeated = {name for name, found in values.items() if len(found) > 1}
    merged = []
    for name, found in values.items():
        if name not in repeated:
            merged.append((name, found[0]))
        elif name not in _DROPPED_IF_REPEATED:
            merged.append((name, (b"; " if name == b"cookie" else b", ").join(found)))
    return merged, not repeated.isdisjoint(_REJECTED_IF_REPEATED)
