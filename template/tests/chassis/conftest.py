"""Fixtures of the contract: `start` an application in this process, read its `logs`, ask one that is `running`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ..package import module
from .application import create_app
from .in_process import open_client
from .process import Process, serving

# The commands of the service around the application of the tests.
FAULTS = ("tests.chassis.fault_server", "serve")

Start = Callable[..., httpx.Client]
Logs = Callable[..., list[dict[str, Any]]]


def settings_for_tests(**values: Any) -> Any:
    """Return the settings of a service called `demo`; `values` are settings by their field names."""
    chosen = {"service_name": "demo", "service_version": "1.2.3", "environment": "test"} | values
    return module("chassis.settings").load(module("chassis.features").ChassisSettings, _env_file=None, **chosen)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the smallest application with the chassis, and give a client for it.

    `behaviours` are what its routes do, by name; `install` is a feature of the test's own, called with the service;
    `peer` is the client's address; everything else is a setting.
    """
    with ExitStack() as stack:

        def open_one(
            behaviours: dict[str, Callable[[], Any]] | None = None,
            *,
            install: Callable[[Any], object] = lambda service: None,
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
    """Read the lines on stdout so far, as they are parsed; on request only those of one event."""
    lines: list[dict[str, Any]] = []

    def read(event: str | None = None) -> list[dict[str, Any]]:
        lines.extend(json.loads(line) for line in capsys.readouterr().out.splitlines())
        return [line for line in lines if event in (None, line["event"])]

    yield read
    module("chassis.log_sink").SINK.close_file()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Give a process that serves the application of the tests; they share it, so none of them stops it."""
    with serving(tmp_path_factory.mktemp("running"), *FAULTS) as process:
        yield process
