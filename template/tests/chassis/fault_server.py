"""The service's commands with the application of the tests: `python -m tests.chassis.fault_server serve`."""

from __future__ import annotations

import asyncio
import gc
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from logging import getLogger
from pathlib import Path
from typing import Any

import structlog

from ..package import module
from .application import create_app as create_application

features = module("chassis.features")
request_context = module("chassis.request_context")
log = structlog.get_logger("orders")

PART = b"x" * 65_536
_mark = ContextVar("mark", default="unmarked")


def crash() -> None:
    raise RuntimeError("password=hunter2")


def log_everywhere() -> None:
    """Log with structlog, with the standard library, and with a Python warning."""
    log.info("structlog_entry")
    getLogger("library").warning("standard library entry")
    warnings.warn("warning of Python", RuntimeWarning, stacklevel=1)


def wait() -> None:
    """Return when the test creates a file called `release`."""
    log.info("waiting")
    while not Path("release").exists():
        time.sleep(0.01)
    log.info("waited")


def wait_past_deadline() -> None:
    """Run past the deadline, and then try to commit."""
    context = request_context.current()
    wait()
    try:
        context.begin_commit()
    except module("chassis.errors").DeadlineExceededError:
        log.info("commit_refused")
    else:
        context.end_commit()
        log.info("committed")


def echo(body: bytes) -> dict[str, Any]:
    """Log that a whole body has arrived, as a handler that commits would."""
    log.info("body_handled", size=len(body))
    return {"size": len(body)}


class Stream:
    """Endless streams that count the parts they have produced."""

    def __init__(self) -> None:
        self.parts = 0

    def endless(self) -> Iterator[bytes]:
        log.info("stream_began")
        while True:
            self.parts += 1
            yield PART

    def produced(self) -> int:
        return self.parts * len(PART)


def stream_slowly() -> Iterator[bytes]:
    """Stream one part, wait for the test, and stream another one."""
    yield b"first,"
    wait()
    yield b"last"


def stream_late() -> Iterator[bytes]:
    """Stream nothing until the test creates a file."""
    wait()
    yield b"late"


def stream_and_fail() -> Iterator[bytes]:
    yield b"half of the "
    raise RuntimeError("the other half is secret")


def stream_and_exit() -> Iterator[bytes]:
    yield b"half of the "
    raise SystemExit("the other half is secret")


def leave() -> None:
    raise SystemExit("a handler must not end the service")


def stream_nothing() -> Iterator[bytes | None]:
    """Stream a part that is not bytes, like a generator that forgets a value."""
    yield b"half of the "
    yield None
    yield b"rest"


def mark() -> str:
    """Set a context variable, and return its previous value."""
    before = _mark.get()
    _mark.set("marked")
    return before


async def wait_in_a_thread() -> None:
    """Wait in a thread of the event loop, which cannot be cancelled."""
    await asyncio.to_thread(wait)


async def ignore_cancellation() -> None:
    """Wait in a task that cannot be cancelled either."""
    log.info("waiting")
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01)


class UnavailableUntilFile:
    """A dependency that is unavailable until the file that FAULTY_DEPENDENCY names exists; it logs what happens."""

    __name__ = "faulty"

    def install(self, chassis: Any) -> None:
        chassis.lifespans.append(("faulty", self.open))

    @contextmanager
    def open(self) -> Iterator[None]:
        if not Path(os.environ["FAULTY_DEPENDENCY"]).exists():
            log.info("faulty_unavailable")
            raise module("chassis.errors").UnavailableError()
        yield
        log.info("faulty_closed")


def create_app() -> Any:
    settings = module("chassis.settings").load(features.ChassisSettings)
    stream = Stream()
    behaviours = {
        "crash": crash, "log-everywhere": log_everywhere, "wait": wait, "past-deadline": wait_past_deadline,
        "nap": lambda: time.sleep(0.02), "echo": echo, "endless": stream.endless, "produced": stream.produced,
        "slowly": stream_slowly, "late": stream_late, "half": stream_and_fail, "exit": stream_and_exit, "leave": leave,
        "nothing": stream_nothing, "mark": mark, "frozen": gc.get_freeze_count,
        "wait-in-a-thread": wait_in_a_thread, "ignore-cancellation": ignore_cancellation,  # for FastAPI
    }  # fmt: skip
    own = (UnavailableUntilFile(),) if "FAULTY_DEPENDENCY" in os.environ else ()
    return create_application(settings, (*features.FEATURES, *own), behaviours)


if __name__ == "__main__":
    cli = module("chassis.cli")
    app = f"{__package__}.fault_server:create_app"
    program = cli.Program(app, features.ChassisSettings, features.FEATURES, features.serve)
    raise SystemExit(cli.main(program))
