"""Calls out from a thread, as a synchronous service does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..package import module

clients = module("chassis.resilience.wsgi")
lifespan = module("chassis.lifespan.wsgi").lifespan


@contextmanager
def running(service: Any) -> Iterator[Callable[..., Any]]:
    """Start a service without an application, and give what calls a function in it: `call(client.get, "/")`."""
    with lifespan(service):
        yield lambda function, *args: function(*args)
