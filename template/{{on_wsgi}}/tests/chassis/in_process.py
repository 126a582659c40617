"""Talks to a WSGI application in this process, so that a test needs no port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import httpx

from ..package import module


@contextmanager
def open_client(app: Any, peer: str = "127.0.0.1", *, started: bool = True) -> Iterator[httpx.Client]:
    """Start an application (or, on request, do not start it) and give a client whose address is `peer`."""
    lifespan, service_of = module("chassis.lifespan.wsgi").lifespan, module("chassis.service").service_of
    life = lifespan(service_of(app)) if started else nullcontext()
    transport = httpx.WSGITransport(_with_ending_input(app), raise_app_exceptions=False, remote_addr=peer)
    with life, httpx.Client(transport=transport, base_url="http://localhost") as client:
        yield client


def _with_ending_input(app: Any) -> Any:
    """Say what servers say that read chunked bodies: the input ends by itself, declared length or not."""

    def call(environ: dict[str, Any], start_response: Any) -> Any:
        return app({**environ, "wsgi.input_terminated": True}, start_response)

    return call
