"""Call other services as synchronous handlers do, from a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from anyio.from_thread import start_blocking_portal

from ..package import module

clients = module("chassis.http_client.sync")


@contextmanager
def running(chassis: Any) -> Iterator[Callable[..., Any]]:
    """Open the resources of a service without an application, and yield a function that calls other functions in it."""
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(chassis.open_lifespans()):
        yield lambda function, *arguments: function(*arguments)
