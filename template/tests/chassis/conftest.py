"""Fixtures of the contract: `start` an application in this process, read its `logs`, use a `running` process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from inspect import iscoroutinefunction
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ..package import module
from .application import create_app
from .in_process import open_client
from .log_entries import parse
from .process import Process, serving

# The commands of the service, with the application of the tests instead of yours.
FAULTS = ("tests.chassis.fault_server", "serve")
# How many connections the shared process accepts.
MAX_CONNECTIONS = 50

Start = Callable[..., httpx.Client]
Logs = Callable[..., list[dict[str, Any]]]


def settings_for_tests(**values: Any) -> Any:
    """Return the settings of a service called `demo`; `values` are settings by their field names."""
    chosen = {"service_name": "demo", "service_version": "1.2.3", "environment": "test"} | values
    return module("chassis.settings").load(module("chassis.features").ChassisSettings, _env_file=None, **chosen)


def measured(chassis: Any) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the measurements of sources that are not coroutines, by name and by the values of their attributes."""
    found: dict[str, dict[tuple[str, ...], float]] = {}

    async def read() -> None:
        for source in chassis.measurements:
            for one in () if iscoroutinefunction(source) else source():
                found.setdefault(one.name, {})[tuple(one.attributes.values())] = one.value

    asyncio.run(read())
    return found


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the smallest application with the chassis, and return a client of it.

    `behaviours` are functions by name, which the application's routes call. `install` is called with the chassis, like
    the `install` of a feature. `peer` is the client's address. All other arguments are settings.
    """
    with ExitStack() as stack:

        def open_one(
            behaviours: dict[str, Callable[..., Any]] | None = None,
            *,
            install: Callable[[Any], object] = lambda chassis: None,
            peer: str = "127.0.0.1",
            started: bool = True,
            **settings: Any,
        ) -> httpx.Client:
            features = (*module("chassis.features").FEATURES, SimpleNamespace(__name__="test", install=install))
            app = create_app(settings_for_tests(**settings), features, behaviours or {})
            return stack.enter_context(open_client(app, peer, started=started))

        yield open_one


@pytest.fixture
def logs(capsys: pytest.CaptureFixture[str]) -> Iterator[Logs]:
    """Return a function that reads the log entries on stdout so far, optionally those of one event."""
    entries: list[dict[str, Any]] = []

    def read(event: str | None = None) -> list[dict[str, Any]]:
        entries.extend(parse(line) for line in capsys.readouterr().out.splitlines())
        return [entry for entry in entries if event in (None, entry["event"])]

    yield read
    module("chassis.logging.sink").SINK.close_file()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Return a process that serves the application of the tests. They share it, so none of them stops it."""
    with serving(tmp_path_factory.mktemp("running"), *FAULTS, MAX_CONNECTIONS=str(MAX_CONNECTIONS)) as process:
        yield process
