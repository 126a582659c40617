"""Serves a WSGI application with granian, and drains before it stops.

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
from logging import getLogger
from multiprocessing.util import Finalize
from typing import Any

import structlog
from granian.constants import Interfaces
from granian.server import MPServer
from pydantic import Field

from .. import logging
from ..access_lines.wsgi import LineWriter
from ..lifespan.wsgi import lifespan
from ..limits.wsgi import SPARE_THREADS
from ..service import Service, service_of
from ..settings import BaseChassisSettings
from ..startup import EX_UNAVAILABLE

# What the first process says to the worker.
_DRAIN, _STOP = b"d", b"s"
# Hands granian's records to the root logger, and so to the pipe that every other line goes through.
_LOG_CONFIG = {"handlers": {}, "loggers": {"_granian": {"level": "INFO", "handlers": [], "propagate": True}}}
# granian takes more threads than two a core for a mistake. Here they are meant: most of them wait for something.
_MEANT = "Configuration allows spawning up to"

log = structlog.get_logger(__name__)


class Settings(BaseChassisSettings):
    """Server"""

    server_threads: int = Field(
        8,
        ge=1,
        le=512,
        description="How many requests are worked on at once; when none of them ends, those that wait get 503.",
    )


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

    def shutdown(self, exit_code: int = 0) -> None:
        """Stop the worker, and end with the code of one that could not start."""
        ended = [worker.inner.exitcode for worker in self.wrks]
        end: Callable[[int], None] = super().shutdown
        end(EX_UNAVAILABLE if EX_UNAVAILABLE in ended else exit_code)

    def _stop(self) -> None:
        os.write(self.to_worker, _STOP)
        interrupt: Callable[[], None] = super().signal_handler_interrupt
        interrupt()


def serve(create_app: Callable[[], Any], settings: Any) -> int:
    """Serve until told to stop; return the exit code of the process."""
    logging.configure(settings)
    getLogger("_granian").addFilter(lambda record: not record.getMessage().startswith(_MEANT))
    # The application is made in the worker and never pickled; later Pythons would not fork by themselves.
    multiprocessing.set_start_method("fork", force=True)
    from_first, to_worker = os.pipe()
    server = DrainingServer(
        "app",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.WSGI,
        blocking_threads=settings.server_threads + SPARE_THREADS,
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
    """Make the application in the worker, which serves it while its resources are opened in another thread."""
    os.close(to_worker)  # only the first process holds it, so that its end is seen here
    os.setpgrp()  # Ctrl-C in a terminal is for the first process; the worker stops when that says so
    app = create_app()
    service = service_of(app)
    service.lifecycle.opening = True
    opened = ExitStack()
    opened.enter_context(service.get(LineWriter).in_background())
    Finalize(None, opened.close, exitpriority=0)
    threading.Thread(target=_open, args=(service, opened), name="open", daemon=True).start()
    threading.Thread(target=_listen, args=(from_first, service, opened), name="listen", daemon=True).start()
    return app


def _open(service: Service, opened: ExitStack) -> None:
    """Open what the service needs; without it the worker ends."""
    try:
        opened.enter_context(lifespan(service))
        opened.callback(service.lifecycle.drain)  # however the end comes about, it is told in this order
    except Exception:
        if not service.lifecycle.draining:
            log.exception("startup_failed")
            opened.close()
            os._exit(EX_UNAVAILABLE)


def _listen(from_first: int, service: Service, opened: ExitStack) -> None:
    """Do as the first process says, and stop when it has died without a word."""
    while word := os.read(from_first, 1):
        if word == _DRAIN:
            if service.lifecycle.opening and not service.lifecycle.draining:
                os.kill(os.getppid(), signal.SIGTERM)  # there is nothing to drain: stop at once
            service.lifecycle.drain()
            continue
        # Threads cannot be stopped: requests that do not finish in time are left behind.
        time.sleep(service.settings.shutdown_timeout_seconds)
        opened.close()
        os._exit(0)
    os.kill(os.getpid(), signal.SIGTERM)
