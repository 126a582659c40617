"""Serves a WSGI application with granian: its threads cost less than half of gunicorn's (see docs).

granian runs the application in a worker process. The first process stays to hear the signals: it tells the worker to
drain, waits, and stops it. It tells through a pipe, because a second signal on the heels of a first may reach a thread
that does not wake Python's main one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.util import Finalize
from typing import Any

import structlog
from granian.constants import Interfaces
from granian.server import MPServer
from pydantic import Field

from .. import logging
from ..access_lines.wsgi import LineWriter
from ..service import Service, service_of
from ..settings import BaseChassisSettings
from ..web.wsgi import lifespan

EX_UNAVAILABLE = 69  # sysexits.h: something that the service depends on is not there
# What the first process says to the worker.
_DRAIN, _STOP = b"d", b"s"
# Hands granian's records to the root logger, and so to the pipe that every other line goes through.
_LOG_CONFIG = {"handlers": {}, "loggers": {"_granian": {"level": "INFO", "handlers": [], "propagate": True}}}

log = structlog.get_logger(__name__)


class Settings(BaseChassisSettings):
    """Server"""

    server_threads: int = Field(8, ge=1, le=512, description="How many requests are worked on at once.")


class DrainingServer(MPServer):
    """A server whose first SIGTERM or SIGINT only starts the drain; the second one stops it at once."""

    drain_seconds = 0.0
    to_worker = -1
    _draining = False

    def signal_handler_interrupt(self, *_args: Any, **_kwargs: Any) -> None:
        delay_seconds = 0.0 if self._draining else self.drain_seconds
        self._draining = True
        os.write(self.to_worker, _DRAIN)
        stop = threading.Timer(delay_seconds, self._stop)
        stop.daemon = True
        stop.start()

    def _stop(self) -> None:
        os.write(self.to_worker, _STOP)
        interrupt: Callable[[], None] = super().signal_handler_interrupt
        interrupt()


def serve(create_app: Callable[[], Any], settings: Any) -> int:
    """Serve until told to stop; return the exit code of the process."""
    logging.configure(settings)
    # The application is made in the worker and never pickled; later Pythons would not fork by themselves.
    multiprocessing.set_start_method("fork", force=True)
    from_first, to_worker = os.pipe()
    server = DrainingServer(
        "app",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.WSGI,
        blocking_threads=settings.server_threads,
        # The worker gives up by itself, in good order; it is killed only when it cannot even do that.
        workers_kill_timeout=round(settings.shutdown_timeout_seconds) + 2,
        websockets=False,
        log_dictconfig=_LOG_CONFIG,
    )
    server.drain_seconds = settings.shutdown_drain_seconds
    server.to_worker = to_worker
    server.serve(target_loader=lambda: _load(create_app, from_first, to_worker), wrap_loader=False)
    return 0


def _load(create_app: Callable[[], Any], from_first: int, to_worker: int) -> Any:
    """Make the application in the worker, open its resources, and have them closed when the worker ends."""
    os.close(to_worker)  # only the first process holds it, so that its end is seen here
    os.setpgrp()  # Ctrl-C in a terminal is for the first process; the worker stops when that says so
    app = create_app()
    service = service_of(app)
    stack = ExitStack()
    try:
        stack.enter_context(service.get(LineWriter).in_background())
        stack.enter_context(lifespan(service))
    except Exception:
        log.exception("startup_failed")
        raise SystemExit(EX_UNAVAILABLE) from None
    Finalize(None, stack.close, exitpriority=0)
    threading.Thread(target=_listen, args=(from_first, service, stack), name="listen", daemon=True).start()
    return app


def _listen(from_first: int, service: Service, opened: ExitStack) -> None:
    """Do as the first process says, and stop when it has died without a word."""
    while word := os.read(from_first, 1):
        if word == _DRAIN:
            service.lifecycle.drain()
            continue
        # Threads cannot be stopped: requests that do not finish in time are left behind.
        time.sleep(service.settings.shutdown_timeout_seconds)
        opened.close()
        os._exit(0)
    os.kill(os.getpid(), signal.SIGTERM)
