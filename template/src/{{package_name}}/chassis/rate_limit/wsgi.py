"""Rate limits in threads."""

from __future__ import annotations

from ..cache.wsgi import Cache
from ..request_context import RequestContext
from ..service import Service
from .judge import Head, RateLimitCheck, RateLimits


class RateLimitFeature:
    """The feature for `FEATURES`; it counts where the cache keeps things."""

    def install(self, service: Service) -> None:
        if not service.settings.rate_limit_enabled:
            return
        limits = RateLimits(service, str)
        store = service.get(Cache).store

        def admit(context: RequestContext, head: Head) -> None:
            limit = limits.limit_for(context)
            if limit is not None:
                limits.judge(context, limit, store.take(limits.key(context, head), limit))

        service.provide(limits)
        service.admissions.append(admit)
        service.health.add(RateLimitCheck(limits, store))
