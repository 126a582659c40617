"""The limiter: identifies the client of a request, counts the request, and rejects it with 429 above the limit."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import cached_property, lru_cache
from hashlib import sha256
from ipaddress import IPv6Address
from typing import Any, Protocol

from ..app import Chassis
from ..errors import RateLimitedError
from ..health.checks import Check, Outcome
from ..instrumentation import Measurement
from ..request_context import RequestContext
from . import Limit, RateLimitResult, Settings, limit_of

# Returns the key of a client from its request and all request headers.
Key = Callable[[RequestContext, Mapping[str, str]], str]


class Store(Protocol):
    """Counts requests on the event loop. A store that is unavailable returns None and does not raise."""

    @property
    def unavailable(self) -> bool: ...

    def hit(self, client: str, limit: Limit) -> RateLimitResult | Awaitable[RateLimitResult | None]: ...

    def details(self) -> Mapping[str, Any]: ...


class RateLimiter:
    """Enforces the limits. Assign `key` to identify clients differently: `chassis.get(RateLimiter).key = ...`."""

    def __init__(self, chassis: Chassis, store: Store) -> None:
        settings = chassis.settings_as(Settings)
        self.key: Key = api_key_or_ip_key if settings.rate_limit_key == "api-key" else client_ip_key
        self.limited = 0  # rejected requests
        self.failed_open = 0  # requests that were allowed because the store was unavailable
        self.store = store
        self._chassis = chassis
        self._default = Limit.parse("default", settings.rate_limit_default)

    def enforce(self, context: RequestContext, headers: Mapping[str, str]) -> Awaitable[None] | None:
        """Count a request and set the rate limit headers of its response.

        Raises:
            RateLimitedError: The client has sent too many requests.
        """
        limit = self._limit_for(context)
        if limit is None:
            return None
        result = self.store.hit(self.key(context, headers), limit)
        # A coroutine that waits for nothing would cost as much as the counting itself.
        if isinstance(result, RateLimitResult):
            self._apply(context, limit, result)
            return None
        return self._apply_later(context, limit, result)

    async def _apply_later(
        self, context: RequestContext, limit: Limit, pending: Awaitable[RateLimitResult | None]
    ) -> None:
        result = await pending
        if result is not None:
            self._apply(context, limit, result)
        else:
            self.failed_open += 1

    def _apply(self, context: RequestContext, limit: Limit, result: RateLimitResult) -> None:
        reset_seconds = math.ceil(result.reset_seconds)
        remaining = b"%s;r=%d;t=%d" % (limit.label, result.remaining, reset_seconds)
        context.headers = [*(context.headers or ()), (b"ratelimit-policy", limit.policy), (b"ratelimit", remaining)]
        if not result.allowed:
            self.limited += 1
            raise RateLimitedError(retry_after_seconds=max(1, reset_seconds))

    def measure(self) -> Iterator[Measurement]:
        """Return the counters."""
        yield Measurement("rate_limit.rejected", "Requests rejected with 429.", self.limited, kind="counter")
        description = "Requests that were not counted because the store was unavailable."
        yield Measurement("rate_limit.failed_open", description, self.failed_open, kind="counter")

    def _limit_for(self, context: RequestContext) -> Limit | None:
        """Return the limit of the route that will serve the request."""
        routes = self._chassis.routes
        if routes is None or not context.path.startswith(self._prefixes):
            return self._default
        return limit_of(routes.resolve(context.method, context.path), self._default)

    @cached_property
    def _prefixes(self) -> tuple[str, ...]:
        """The path prefixes of routes with their own limit. Only paths that start with one of them must be resolved."""
        listed = self._chassis.routes.prefixes() if self._chassis.routes else ()
        return tuple({prefix for prefix, endpoint in listed if limit_of(endpoint, self._default) is not self._default})


class RateLimitCheck(Check):
    """Shows the counters, and warns while requests are allowed because the store is unavailable."""

    def __init__(self, limiter: RateLimiter) -> None:
        async def probe() -> bool:
            return limiter.store.unavailable

        def details() -> Mapping[str, Any]:
            return {"limited": limiter.limited, "failed_open": limiter.failed_open, **limiter.store.details()}

        super().__init__("rate_limit", probe, details=details)

    def evaluate(self, value: Any) -> Outcome:
        return Outcome("warning", "the store is unavailable; requests are not limited") if value else Outcome()


def install(chassis: Chassis, store: Store) -> None:
    """Enforce the limits with a store, unless they are disabled."""
    settings = chassis.settings_as(Settings)
    if settings.rate_limit_enabled:
        limiter = RateLimiter(chassis, store)
        chassis.provide(limiter)
        if settings.rate_limit_key == "api-key":
            chassis.request_limiters.append(chassis.authenticate)
        chassis.request_limiters.append(limiter.enforce)
        chassis.health.add(RateLimitCheck(limiter))
        chassis.measurements.append(limiter.measure)


def client_ip_key(context: RequestContext, _headers: Mapping[str, str]) -> str:
    """Identify a client by its address. For IPv6 use the /64 network, because one client usually owns all of it."""
    address = context.client_address
    return _ipv6_key(address) if ":" in address else address


def api_key_or_ip_key(context: RequestContext, headers: Mapping[str, str]) -> str:
    """Identify a client by its valid credentials, else by its address. An unchecked `X-API-Key` counts as valid."""
    if context.principal is not None:
        key: str | None = f"{context.principal.kind} {context.principal.id}"
    else:
        key = None if context.authentication_error else headers.get("x-api-key")
    return sha256(key.encode()).hexdigest()[:32] if key else client_ip_key(context, headers)


@lru_cache(maxsize=4096)
def _ipv6_key(address: str) -> str:
    """Return the /64 network of an IPv6 address, which `client_ip` has converted from IPv4-mapped addresses."""
    try:
        return f"{int(IPv6Address(address)) >> 64:x}"
    except ValueError:
        return address
