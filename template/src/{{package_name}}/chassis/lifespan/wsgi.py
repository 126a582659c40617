"""Opens and closes what a synchronous service needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager

import stamina
import structlog

from ..service import Lifespan, Service
from ..startup import is_away, policy

log = structlog.get_logger(__name__)


@contextmanager
def lifespan(service: Service) -> Iterator[None]:
    """Open what the features need in order, mark the service started, and close everything in reverse."""
    retry = stamina.RetryingCaller(**policy(service))
    with ExitStack() as stack:
        for name, opener in service.lifespans:
            retry(is_away(service), _open, stack, opener)
            log.info("dependency_opened", dependency=name)
        service.lifecycle.mark_started()
        yield
    service.lifecycle.mark_stopped()


def _open(stack: ExitStack, opener: Lifespan) -> None:
    resource = opener()
    if isinstance(resource, AbstractAsyncContextManager):
        raise TypeError("a dependency opens asynchronously, which a WSGI service cannot do")
    stack.enter_context(resource)
