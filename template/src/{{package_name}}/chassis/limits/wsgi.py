"""Interrupts a thread whose request takes too long: WSGI has no other way to stop a handler.

Python raises the interruption between two of its own instructions. A call that blocks inside C (a socket, a sleep) is
interrupted when it returns, so calls out need time-outs of their own.
"""

from __future__ import annotations

import ctypes
import threading
import time
from queue import Empty, SimpleQueue

from ..errors import DeadlineExceededError, UnavailableError

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc


def _raise_in_thread(thread: int, error: type[BaseException]) -> None:
    """Have `error` raised in a thread, within its next instructions; it takes the place of one still on its way."""
    _set_async_exc(ctypes.c_ulong(thread), ctypes.py_object(error))


class _TakenBackError(BaseException):
    """Takes the place of an interruption that nobody shall see."""


class Watch:
    """One request that is being watched; `stop` it whatever happens, twice does no harm."""

    __slots__ = ("_deadlines", "expired", "thread", "until")

    def __init__(self, deadlines: Deadlines, until: float) -> None:
        self._deadlines = deadlines
        self.thread = threading.get_ident()
        self.until = until
        self.expired = False

    def stop(self) -> None:
        """Stop watching. After this no interruption can reach the thread: one still on its way is taken back."""
        with self._deadlines.lock:
            self._deadlines.running.pop(self.thread, None)
            if self.expired:
                self._take_back()

    def _take_back(self) -> None:
        # Raising nothing would do, but Python never takes note of it: it goes on looking for the error at every turn,
        # and under a tracer (coverage, a debugger) it looks for ever.
        try:
            _raise_in_thread(self.thread, _TakenBackError)
            while True:
                time.sleep(0)
        except _TakenBackError:
            pass


class Deadlines:
    """Watches the requests of all threads from one more thread."""

    def __init__(self, timeout_seconds: float) -> None:
        self.lock = threading.Lock()
        self.running: dict[int, Watch] = {}
        self._timeout_seconds = timeout_seconds
        self._interval_seconds = max(0.01, min(0.5, timeout_seconds / 20))
        self._watcher: threading.Thread | None = None

    def start(self) -> Watch:
        """Watch the request that this thread begins now."""
        if self._watcher is None:
            self._start_watching()
        watch = Watch(self, time.monotonic() + self._timeout_seconds)
        self.running[watch.thread] = watch
        return watch

    def _start_watching(self) -> None:
        with self.lock:
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._watcher.start()

    def _watch(self) -> None:
        while True:
            time.sleep(self._interval_seconds)
            now = time.monotonic()
            with self.lock:
                for watch in list(self.running.values()):
                    if watch.until < now and not watch.expired:
                        watch.expired = True
                        _raise_in_thread(watch.thread, DeadlineExceededError)


# Threads that the server has besides those for requests, so that probes are answered when all of these are stuck.
SPARE_THREADS = 4
# How long a request waits while none of the others ends.
_PATIENCE_SECONDS = 0.75
# A thread that has ended a request goes on with the next one before it is the turn of those that wait. Otherwise they
# would take turns at every request, and one that reads a row would cost a third more under load.
_PAUSE_SECONDS = 0.01


class Slots:
    """How many requests are worked on at once. When none of them ends for a while, those that wait are sent away."""

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[None] = SimpleQueue()
        self._stuck = False
        for _ in range(count):
            self._free.put(None)

    def take(self) -> None:
        """Take a slot, which must be given back.

        Raises:
            UnavailableError: all are taken, and none has become free of late.
        """
        try:
            self._free.get_nowait()
        except Empty:
            self._wait()

    def give_back(self) -> None:
        self._stuck = False
        self._free.put(None)

    def _wait(self) -> None:
        if self._stuck:
            raise UnavailableError()
        time.sleep(_PAUSE_SECONDS)
        try:
            self._free.get(timeout=_PATIENCE_SECONDS)
        except Empty:
            self._stuck = True
            raise UnavailableError() from None
