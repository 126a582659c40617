"""Cancels the task of a request that takes too long.

One timer looks after all requests: a timer for each, as `asyncio.timeout` has it, would cost more than all other limits
together.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any


class Watch:
    """One request that is being watched; `stop` it whatever happens."""

    __slots__ = ("_deadlines", "expired", "task", "until")

    def __init__(self, deadlines: Deadlines, task: asyncio.Task[Any], until: float) -> None:
        self._deadlines = deadlines
        self.task = task
        self.until = until
        self.expired = False

    def stop(self) -> None:
        """Stop watching. The cancellation, where there was one, is taken back: the task goes on with its answer."""
        if self.expired:
            self.task.uncancel()
        else:
            self._deadlines.running.pop(self, None)


class Deadlines:
    """Watches the requests of an application."""

    def __init__(self, timeout_seconds: float) -> None:
        # In the order of their start, which is that of their ends: only the first ones can be late.
        self.running: dict[Watch, None] = {}
        self._timeout_seconds = timeout_seconds
        self._interval_seconds = max(0.01, min(0.5, timeout_seconds / 20))
        self._swept: asyncio.AbstractEventLoop | None = None

    def start(self) -> Watch:
        """Watch the request that this task begins now.

        Raises:
            RuntimeError: it is not called in a task.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is served in a task")
        watch = Watch(self, task, time.monotonic() + self._timeout_seconds)
        self.running[watch] = None
        loop = task.get_loop()
        if loop is not self._swept:
            self._sweep_later(loop)
        return watch

    def _sweep_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._swept = loop
        loop.call_later(self._interval_seconds, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel what is late; a loop without requests is left alone until the next one."""
        now = time.monotonic()
        for watch in list(self.running):
            if watch.until > now:
                break
            if watch.task.get_loop() is loop:
                watch.expired = True
                del self.running[watch]
                watch.task.cancel()
        if self.running:
            self._sweep_later(loop)
        elif self._swept is loop:
            self._swept = None
