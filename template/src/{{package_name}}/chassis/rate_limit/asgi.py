"""Rate limits on an event loop."""

from __future__ import annotations

from collections.abc import Awaitable

from ..cache.asgi import Cache
from ..request_context import RequestContext
from ..service import Service
from .judge import Head, RateLimitCheck, RateLimits
from .limit import Limit


class RateLimitFeature:
    """The feature for `FEATURES`; it counts where the cache keeps things."""

    def install(self, service: Service) -> None:
        if not service.settings.rate_limit_enabled:
            return
        limits = RateLimits(service, lambda text: text.encode("latin-1"))
        store = service.get(Cache).store

        def admit(context: RequestContext, head: Head) -> Awaitable[None] | None:
            limit = limits.limit_for(context)
            if limit is None:
                return None
            client = limits.key(context, head)
            # No coroutine where nothing is to be waited for: it would cost as much as the counting.
            verdict = store.take_at_once(client, limit)
            if verdict is None:
                return ask(context, client, limit)
            limits.judge(context, limit, verdict)
            return None

        async def ask(context: RequestContext, client: str, limit: Limit) -> None:
            limits.judge(context, limit, await store.take(client, limit))

        service.provide(limits)
        service.admissions.append(admit)
        service.health.add(RateLimitCheck(limits, store))
