"""The service's commands around the application of the tests: `python -m tests.chassis.fault_server serve`."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from typing import Any

import structlog

from ..package import module
from .application import create_app as application

features = module("chassis.features")
log = structlog.get_logger("orders")


def crash() -> None:
    raise RuntimeError("password=hunter2")


def print_lines() -> None:
    """Write in all the ways in which a process writes."""
    log.info("said_by_us")
    getLogger("library").warning("said by a library")
    warnings.warn("said by Python", RuntimeWarning, stacklevel=1)


def wait() -> None:
    """Be in flight until the test makes a file called `release`."""
    log.info("waiting")
    while not Path("release").exists():
        time.sleep(0.01)
    log.info("waited")


def stop() -> None:
    """Have the process that the test has named in a file told to stop, while this request is served."""
    os.kill(int(Path("pid").read_text(encoding="ascii")), signal.SIGTERM)


class FaultyDependency:
    """A dependency that is away until the file that FAULTY_DEPENDENCY names is there, and that says when it closes."""

    __name__ = "faulty"

    def install(self, service: Any) -> None:
        service.lifespans.append(("faulty", self.open))

    @contextmanager
    def open(self) -> Iterator[None]:
        if not Path(os.environ["FAULTY_DEPENDENCY"]).exists():
            raise module("chassis.errors").UnavailableError()
        yield
        log.info("faulty_closed")


def create_app() -> Any:
    settings = module("chassis.settings").load(features.ChassisSettings)
    behaviours = {"crash": crash, "print": print_lines, "wait": wait, "stop": stop, "nap": lambda: time.sleep(0.02)}
    own = (FaultyDependency(),) if "FAULTY_DEPENDENCY" in os.environ else ()
    return application(settings, (*features.FEATURES, *own), behaviours)


if __name__ == "__main__":
    cli = module("chassis.cli")
    app = f"{__package__}.fault_server:create_app"
    program = cli.Program(app, features.ChassisSettings, features.FEATURES, features.serve)
    raise SystemExit(cli.main(program))
