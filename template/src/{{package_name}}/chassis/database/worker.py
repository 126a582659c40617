"""Work in a thread, for which event loops and threads wait alike: for a limited time, and no longer than they must."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from sqlalchemy.util import await_only

# How often whoever waits looks up: a thread that waits for a lock does not hear that its request is over.
INTERVAL_SECONDS = 0.1

T = TypeVar("T")


class Worker:
    """Does the work of one connection in a thread, so that no event loop waits for it.

    Work that has a limit is ended by `interrupt`, again and again until it has ended: when its time is up, and when
    whoever waits for it is cancelled. While it waits for something itself it must look at `is_unwanted`.
    """

    def __init__(self, interrupt: Callable[[], None], is_async: bool) -> None:
        self.is_unwanted = False
        self._interrupt = interrupt
        self._is_async = is_async
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")

    def do(self, work: Callable[..., T], *arguments: Any, limit_seconds: float | None = None) -> T:
        """Have something done, after all that was asked for before, and return what it returns."""
        self.is_unwanted = False
        future = self.start(work, *arguments)
        if not self._is_async:
            return self._waited(future, limit_seconds)
        result: T = await_only(self._awaited(future, limit_seconds))
        return result

    def start(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        """Have something done, and do not wait for it."""
        return self._thread.submit(work, *arguments)

    def end(self) -> None:
        """Let the thread end when its work is done."""
        self._thread.shutdown(wait=False)

    def _waited(self, future: Future[T], limit_seconds: float | None) -> T:
        deadline = math.inf if limit_seconds is None else time.monotonic() + limit_seconds
        try:
            while not wait([future], timeout=INTERVAL_SECONDS).done:
                if time.monotonic() > deadline:
                    self._interrupt()
        except BaseException:  # the request's own deadline
            self.is_unwanted = limit_seconds is not None
            while self.is_unwanted and not wait([future], timeout=INTERVAL_SECONDS).done:
                self._interrupt()
            raise
        return future.result(0)

    async def _awaited(self, future: Future[T], limit_seconds: float | None) -> T:
        waiting = asyncio.wrap_future(future)
        try:
            # Unlike `wait_for` this leaves the work alone when its caller is cancelled.
            await asyncio.wait([waiting], timeout=limit_seconds)
            while not waiting.done():
                self._interrupt()
                await asyncio.wait([waiting], timeout=INTERVAL_SECONDS)
        except asyncio.CancelledError:
            waiting.add_done_callback(_looked_at)
            self.is_unwanted = limit_seconds is not None
            while self.is_unwanted and not waiting.done():
                self._interrupt()
                await asyncio.wait([waiting], timeout=INTERVAL_SECONDS)
            raise
        return future.result(0)


def _looked_at(future: asyncio.Future[Any]) -> None:
    """Keep asyncio from reporting an error for which nobody waits any more."""
    if not future.cancelled():
        future.exception()
