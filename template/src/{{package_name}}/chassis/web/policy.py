"""Rejects unknown hosts, large bodies and ambiguous headers before the framework runs. Answers CORS preflights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pydantic import Field, ValidationInfo, field_validator

from .. import errors
from ..app import Chassis, Scope
from ..request_context import RequestContext, new_context
from ..settings import BaseChassisSettings, CommaSeparated, in_production
from .headers import RawHeaders, encoded
from .problems import RawResponse
from .proxies import Settings as ProxySettings
from .proxies import TrustedProxies

# The server sets this key in the scope if the request headers are over their limit.
HEAD_TOO_LARGE = "chassis.head_too_large"

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_MAX_CACHED_HOSTS = 1000
_LARGE_BODY_BYTES = 100_000_000
# A request with two of these is ambiguous: a proxy and the service may each read a different one.
_REJECTED_IF_REPEATED = frozenset({b"host", b"content-length", b"transfer-encoding", b"content-type"})
# If an id or a credential is repeated, none counts: the service creates an id, and authentication finds no credential.
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
        if in_production(info) and ("*" in value or value == list(_LOCAL_HOSTS)):
            raise ValueError("must name the hosts that clients use in production, such as api.example.com")
        return value


class CorsSettings(BaseChassisSettings):
    """CORS"""

    cors_allowed_origins: CommaSeparated = Field(
        [],
        description="Origins whose pages may call the service, such as `https://app.example.com`; none by default.",
    )
    cors_allow_credentials: bool = Field(False, description="Let browsers send cookies and credentials.")
    cors_allowed_headers: CommaSeparated = Field(
        ["authorization", "content-type", "x-request-id"],
        description="Request headers that pages may set.",
    )
    cors_max_age_seconds: int = Field(600, ge=0, description="How long browsers may cache the permission.")

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

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        value = self.raw.get(name.encode("latin-1"))
        return default if value is None else value.decode("latin-1")


class Request(NamedTuple):
    """A request as the policy sees it."""

    context: RequestContext
    headers: RequestHeaders
    cors_headers: RawHeaders
    # An error, or the response to a CORS preflight request, that replaces the application's response.
    rejection: errors.ServiceError | RawResponse | None


class AllowedHosts:
    """Tells whether a `Host` header is allowed; its port does not matter."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._every_host = "*" in allowed
        self._names = frozenset(name.lower() for name in allowed)
        self._suffixes = tuple(name[1:].lower() for name in allowed if name.startswith("*."))
        self._cached: set[bytes] = set()

    def __call__(self, header: bytes | None) -> bool:
        if self._every_host or header in self._cached:
            return True
        if header is None or not self._matches(header.decode("latin-1").lower()):
            return False
        if len(self._cached) < _MAX_CACHED_HOSTS:
            self._cached.add(header)
        return True

    def _matches(self, host: str) -> bool:
        name, colon, port = host.rpartition(":")
        name = name if colon and port.isdigit() else host
        return name in self._names or name.endswith(self._suffixes)


class Cors:
    """Cross-origin requests from browsers (Fetch standard, CORS protocol)."""

    def __init__(self, settings: CorsSettings) -> None:
        self._origins = frozenset(settings.cors_allowed_origins)
        self._every_origin = "*" in self._origins
        self._allowed = {"access-control-expose-headers": "x-request-id"}
        if settings.cors_allow_credentials:
            self._allowed["access-control-allow-credentials"] = "true"
        self._preflight = {
            "access-control-allow-methods": "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
            "access-control-allow-headers": ", ".join(settings.cors_allowed_headers),
            "access-control-max-age": str(settings.cors_max_age_seconds),
        }

    def headers(self, origin: str | None) -> RawHeaders:
        """Return the CORS headers of a response; `Vary` makes caches store one response per origin."""
        if origin is None or not self._allows(origin):
            return encoded({"vary": "Origin"})
        return encoded({"access-control-allow-origin": origin, "vary": "Origin"} | self._allowed)

    def preflight(self, method: str, headers: RequestHeaders) -> RawResponse | None:
        """Return the response to a preflight request, or None for any other request."""
        origin = headers.get("origin")
        if method != "OPTIONS" or origin is None or "access-control-request-method" not in headers:
            return None
        return RawResponse(204, self._preflight if self._allows(origin) else {}, b"")

    def _allows(self, origin: str) -> bool:
        return self._every_origin or origin in self._origins


class RequestPolicy:
    """Creates the context of each request and rejects requests that must not reach the application."""

    def __init__(self, chassis: Chassis) -> None:
        self._lifecycle = chassis.lifecycle
        self.max_body_bytes = chassis.settings_as(LimitSettings).max_request_body_bytes
        self._is_allowed_host = AllowedHosts(chassis.settings_as(HostSettings).allowed_hosts)
        cors = chassis.settings_as(CorsSettings)
        self._cors = Cors(cors) if cors.cors_allowed_origins else None
        trusted = chassis.settings_as(ProxySettings).trusted_proxies
        self._proxies = TrustedProxies(trusted) if trusted else None

    def begin(self, scope: Scope) -> Request:
        """Return a request with its context, its headers, and its rejection if it must not reach the application.

        The scope is changed for the application: repeated headers are resolved, and it has the client behind proxies.
        """
        raw = dict(scope["headers"])
        is_ambiguous = False
        if len(raw) != len(scope["headers"]):
            scope["headers"], is_ambiguous = _merge_repeated(scope["headers"])
            raw = dict(scope["headers"])
        headers = RequestHeaders(raw)
        context = self._context(scope, headers)
        cors_headers = self._cors.headers(headers.get("origin")) if self._cors else []
        rejection: errors.ServiceError | RawResponse | None
        if HEAD_TOO_LARGE in scope:
            rejection = errors.HeadersTooLargeError()
        elif is_ambiguous:
            rejection = errors.BadRequestError("A header that may occur once is repeated.")
        else:
            rejection = self._reject(raw)
        if rejection is None and self._cors:
            rejection = self._cors.preflight(context.method, headers)
        return Request(context, headers, cors_headers, rejection)

    def _context(self, scope: Scope, headers: RequestHeaders) -> RequestContext:
        raw, client = headers.raw, scope.get("client")
        peer, scheme = client[0] if client else "", scope.get("scheme", "http")
        if self._proxies:
            forwarded_for, forwarded_proto = headers.get("x-forwarded-for"), headers.get("x-forwarded-proto")
            address, scheme = self._proxies.resolve(peer, scheme, forwarded_for, forwarded_proto)
            if address != peer:
                peer = address
                scope["client"] = (address, 0)
            scope["scheme"] = scheme
        return new_context(
            scope["method"],
            scope["path"],
            client_address=peer,
            scheme=scheme,
            request_id=raw.get(b"x-request-id"),
            correlation_id=raw.get(b"x-correlation-id"),
            traceparent=raw.get(b"traceparent"),
        )

    def _reject(self, raw: dict[bytes, bytes]) -> errors.ServiceError | None:
        if self._lifecycle.opening:
            return errors.UnavailableError("The service is starting.")
        if not self._is_allowed_host(raw.get(b"host")):
            return errors.BadRequestError("This host is not served here.")
        length = raw.get(b"content-length")
        if length is None:
            return None
        if not length.isdigit():
            return errors.BadRequestError("The Content-Length is not a number.")
        if int(length.lstrip(b"0")[:19] or b"0") > self.max_body_bytes:
            return errors.PayloadTooLargeError()
        return None


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
