"""Calls out from an event loop, as an asynchronous service does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from anyio.from_thread import start_blocking_portal

from ..package import module

clients = module("chassis.resilience.asgi")
lifespan = module("chassis.lifespan.asgi").lifespan


@contextmanager
def running(service: Any) -> Iterator[Callable[..., Any]]:
    """Start a service without an application, and give what calls a function in it: `call(client.get, "/")`."""
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(lifespan(service)):
        yield portal.call
