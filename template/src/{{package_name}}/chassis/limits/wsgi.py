"""Interrupts a thread whose request takes too long: WSGI has no other way to stop a handler.

Python raises the interruption between two of its own instructions. A call that blocks inside C (a socket, a sleep) is
interrupted when it returns, so calls out need time-outs of their own.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections import deque

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
# Whoever has ended a request goes on with the next one, unless somebody has waited for this long. Otherwise threads
# would take turns at every request, and one that reads a row would cost a third more under load.
_TURN_SECONDS = 0.02


# How often whoever waits looks for a slot that nobody took.
_INTERVAL_SECONDS = 2 * _TURN_SECONDS


class _Turn:
    """A request that waits; `signal` is released when it is handed the slot of another one."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.signal = threading.Lock()  # an Event would do, at ten times the cost
        self.signal.acquire(blocking=False)


class Slots:
    """How many requests are worked on at once. When none of them ends for a while, those that wait are sent away."""

    def __init__(self, count: int) -> None:
        self._free = [None] * count
        self._waiting: deque[_Turn] = deque()
        self._lock = threading.Lock()
        self._stuck = False

    def take(self) -> None:
        """Take a slot, which must be given back.

        Raises:
            UnavailableError: all are taken, and none has become free of late.
        """
        if not self._take_free():
            self._wait(_Turn(time.monotonic()))

    def give_back(self) -> None:
        if not (self._waiting and self._handed_over()):
            self._free.append(None)
        self._stuck = False

    def _take_free(self) -> bool:
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def _handed_over(self) -> bool:
        """Hand a slot to who has waited for longest, if that was long enough."""
        with self._lock:
            if not self._waiting or time.monotonic() < self._waiting[0].since + _TURN_SECONDS:
                return False
            self._waiting.popleft().signal.release()
            return True

    def _wait(self, turn: _Turn) -> None:
        if self._stuck:
            raise UnavailableError()
        self._waiting.append(turn)
        while not turn.signal.acquire(timeout=_INTERVAL_SECONDS):
            with self._lock:
                if turn not in self._waiting:
                    return  # it was handed one just now
                is_free = self._take_free()
                if not is_free and time.monotonic() < turn.since + _PATIENCE_SECONDS:
                    continue
                self._waiting.remove(turn)
            if is_free:
                return
            self._stuck = True
            if self._free:  # given back since it was looked for
                self._stuck = False
            raise UnavailableError()
