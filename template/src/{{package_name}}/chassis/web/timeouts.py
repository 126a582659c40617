"""The deadline of a request: its response must begin within `REQUEST_TIMEOUT_SECONDS`.

One timer watches all requests, because a timer for each request, as with `asyncio.timeout`, would cost more than all
other limits together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from ..request_context import RequestContext
from ..settings import BaseChassisSettings

_LONG_TIMEOUT_SECONDS = 120


class Settings(BaseChassisSettings):
    """Timeouts"""

    request_timeout_seconds: float = Field(
        30.0, gt=0, description="Time limit to receive the body and begin a response; then the client gets 504 or 408."
    )
    response_idle_timeout_seconds: float = Field(
        30.0, gt=0, description="How long a client may pause reading a response; then its connection is closed."
    )

    def production_warnings(self) -> list[str]:
        problem = f"REQUEST_TIMEOUT_SECONDS: clients give up before {_LONG_TIMEOUT_SECONDS} s; set a shorter timeout"
        is_long = self.request_timeout_seconds > _LONG_TIMEOUT_SECONDS
        return [*super().production_warnings(), *([problem] if is_long else [])]


# How long a cancelled handler may clean up before the response is sent without it.
_GRACE_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class TimeoutHandle:
    """The deadline of one request. Call `stop` when its response begins and when it ends."""

    _sweeper: TimeoutSweeper
    context: RequestContext
    task: asyncio.Task[Any]
    expires_at: float
    expired: bool = False
    # Called if the task has not ended shortly after its cancellation.
    on_ignored: Callable[[], object] | None = None

    def stop(self) -> None:
        """Stop watching the request; a second call does nothing."""
        self._sweeper.running.pop(self, None)

    def respond_for_task(self) -> None:
        if self.on_ignored is not None and not self.task.done():
            self.on_ignored()

    def take_back_cancellation(self) -> bool:
        """Return whether the task was cancelled only by this deadline; the task may then continue."""
        return self.expired and self.task.uncancel() == 0


class TimeoutSweeper:
    """Watches the requests of an application, and cancels the task of each that passes its deadline."""

    def __init__(self, timeout_seconds: float) -> None:
        # Sorted by start and so by deadline: only the first ones can have expired.
        self.running: dict[TimeoutHandle, None] = {}
        self._timeout_seconds = timeout_seconds
        self._interval_seconds = max(0.01, min(0.5, timeout_seconds / 20))
        self._swept: asyncio.AbstractEventLoop | None = None

    def start(self, context: RequestContext) -> TimeoutHandle:
        """Watch the request that the current task serves.

        Raises:
            RuntimeError: The caller does not run in a task.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request must be served in a task")
        handle = TimeoutHandle(self, context, task, time.monotonic() + self._timeout_seconds)
        self.running[handle] = None
        loop = task.get_loop()
        if loop is not self._swept:
            self._schedule(loop)
        return handle

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._swept = loop
        loop.call_later(self._interval_seconds, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel the requests that have expired. Without requests the timer pauses until the next one."""
        now = time.monotonic()
        for handle in list(self.running):
            if handle.expires_at > now:
                break
            if handle.task.get_loop() is not loop:
                continue
            if handle.context.expire():
                handle.expired = True
                del self.running[handle]
                handle.task.cancel()
                loop.call_later(_GRACE_SECONDS, handle.respond_for_task)
            elif handle.context.extension_due:  # the request gets as much time again for its response
                handle.context.extension_due = False
                handle.expires_at = now + self._timeout_seconds
                self.running[handle] = self.running.pop(handle)
        if self.running:
            self._schedule(loop)
        elif self._swept is loop:
            self._swept = None
