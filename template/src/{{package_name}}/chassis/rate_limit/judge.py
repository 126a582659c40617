"""Decides whom a request counts against and under which limit, and says so in its answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from hashlib import sha256
from ipaddress import IPv6Address
from typing import Any

from ..errors import RateLimitedError
from ..health.registry import Check, Outcome
from ..request_context import RequestContext
from ..service import Service
from . import is_marked, limit_of
from .limit import Limit, Verdict

Head = Mapping[str, str]
# Names the client of a request, from its context and its headers.
Key = Callable[[RequestContext, Head], str]


def by_address(context: RequestContext, _head: Head) -> str:
    """Count each address; of IPv6 the network of 64 bits, as a single client may have all the addresses in it."""
    address = context.client_address
    if ":" not in address:
        return address
    try:
        return f"{int(IPv6Address(address.partition('%')[0])) >> 64:x}"
    except ValueError:
        return address


def by_api_key(context: RequestContext, head: Head) -> str:
    """Count each `X-API-Key`, by a hash of it, and an address where there is none."""
    key = head.get("x-api-key")
    return sha256(key.encode("latin-1", "replace")).hexdigest()[:32] if key else by_address(context, head)


class RateLimits:
    """The rate limits of a service. Set `key` to name clients in another way: `service.get(RateLimits).key = ...`."""

    def __init__(self, service: Service, encode: Callable[[str], str | bytes]) -> None:
        """`encode` turns text into what a header is made of."""
        settings = service.settings
        self.key: Key = by_api_key if settings.rate_limit_by == "api-key" else by_address
        self.limited = 0
        self.let_through = 0
        self._service = service
        self._encode = encode
        self._policy, self._left = encode("ratelimit-policy"), encode("ratelimit")
        self._policies: dict[str, str | bytes] = {}
        self._default = Limit.parse("default", settings.rate_limit_default)

    def limit_for(self, context: RequestContext) -> Limit | None:
        """Return the limit of the route that will serve the request."""
        if not context.path.startswith(self._marked):
            return self._default
        endpoints = self._service.endpoints
        return limit_of(endpoints.find(context.method, context.path) if endpoints else None, self._default)

    @cached_property
    def _marked(self) -> tuple[str, ...]:
        """What paths of routes with a limit of their own start with; the framework is asked about no others."""
        endpoints = self._service.endpoints
        return tuple({start for start, endpoint in endpoints.starts() if is_marked(endpoint)}) if endpoints else ()

    def judge(self, context: RequestContext, limit: Limit, verdict: Verdict | None) -> None:
        """Note in the answer what is left.

        Raises:
            RateLimitedError: nothing is.
        """
        if verdict is None:
            self.let_through += 1
            return
        reset_seconds = math.ceil(verdict.reset_seconds)
        policy = self._policies.get(limit.name)
        if policy is None:
            policy = self._policies[limit.name] = self._encode(limit.policy)
        left = self._encode(f'"{limit.name}";r={verdict.remaining};t={reset_seconds}')
        context.headers = [(self._policy, policy), (self._left, left)]
        if not verdict.allowed:
            self.limited += 1
            raise RateLimitedError(retry_after_seconds=max(1, reset_seconds))


class RateLimitCheck(Check):
    """How many were refused, and how many let through uncounted because the counts cannot be reached."""

    def __init__(self, limits: RateLimits, store: Any) -> None:
        self._store = store

        def measure() -> dict[str, int]:
            return {"limited": limits.limited, "let_through": limits.let_through}

        super().__init__("rate_limit", measure)

    def judge(self, measured: Any) -> Outcome:
        if self._store.away:
            return Outcome("warning", "the counts cannot be reached; everybody is let through", measured)
        return Outcome(details=measured)
