"""Writes the access lines of threads from one more thread.

Every write lets another thread have its turn, and waiting for the next one costs a request more than its line does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from ..access_log import AccessLog
from ..request_context import RequestContext

_DELAY_SECONDS = 0.01
# Beyond this the reader of the lines is too slow, and requests must wait for it.
_MOST_WAITING = 10_000


class LineWriter:
    """Writes lines: at once, or with `in_background` within a hundredth of a second."""

    def __init__(self, write: AccessLog) -> None:
        self._write = write
        self._ended: deque[RequestContext] = deque()
        self._some_wait = threading.Event()
        self._in_background = False

    def add(self, context: RequestContext) -> None:
        """Have the line of a request that has ended written."""
        context.end()
        self._ended.append(context)
        if not self._in_background or len(self._ended) > _MOST_WAITING:
            self._flush()
        elif not self._some_wait.is_set():
            self._some_wait.set()

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """Leave the writing to a thread; at the end nothing waits any more."""
        self._in_background = True
        threading.Thread(target=self._write_waiting, name="access-log", daemon=True).start()
        try:
            yield
        finally:
            self._in_background = False
            self._some_wait.set()
            self._flush()

    def _write_waiting(self) -> None:
        while self._in_background:
            self._some_wait.wait()
            time.sleep(_DELAY_SECONDS)
            self._some_wait.clear()
            try:
                self._flush()
            except Exception:  # a full disk: the lines after these may find room again
                logging.getLogger(__name__).exception("access_lines_lost")

    def _flush(self) -> None:
        ended = []
        while self._ended:
            ended.append(self._ended.popleft())
        if ended:
            self._write(ended)
