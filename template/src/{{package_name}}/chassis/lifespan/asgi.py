"""Opens and closes what an asynchronous service needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import stamina
import structlog

from ..service import Lifespan, Service
from ..startup import is_away, policy

log = structlog.get_logger(__name__)


@asynccontextmanager
async def lifespan(service: Service) -> AsyncIterator[None]:
    """Open what the features need in order, and close everything in reverse."""
    retry = stamina.AsyncRetryingCaller(**policy(service))
    async with AsyncExitStack() as stack:
        for name, opener in service.lifespans:
            await retry(is_away(service), _open, stack, opener)
            log.info("dependency_opened", dependency=name)
        yield


async def _open(stack: AsyncExitStack, opener: Lifespan) -> None:
    resource = opener()
    if isinstance(resource, AbstractAsyncContextManager):
        await stack.enter_async_context(resource)
    else:
        stack.enter_context(resource)
