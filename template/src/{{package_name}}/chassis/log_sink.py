"""Where log lines go: stdout (https://12factor.net/logs), and a rotating file for hosts that collect files."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from logging import LogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import BinaryIO


_DELAY_SECONDS = 0.01
_MOST_WAITING = 10_000


class LogSink:
    """Writes whole lines, so that the lines of many threads never mix."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream
        self._file: RotatingFileHandler | None = None
        self._waiting: deque[bytes] = deque()
        self._some_wait = threading.Event()
        self._in_background = False
        # Re-entrant: a signal's handler may log while the thread it interrupts does.
        self._lock = threading.RLock()

    def add_file(self, path: Path, max_bytes: int, backups: int) -> None:
        """Copy every line to `path` too, rotated at `max_bytes`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = RotatingFileHandler(path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8")

    def close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, line: bytes) -> None:
        """Write one line, its newline included, after those that wait."""
        with self._lock:
            self._put(b"".join([*(self._waiting.popleft() for _ in range(len(self._waiting))), line]))

    def write_soon(self, line: bytes) -> None:
        """Write one line, its newline included, within `_DELAY_SECONDS` when there is a thread for it, else at once."""
        if not self._in_background or len(self._waiting) >= _MOST_WAITING:
            self.write(line)
            return
        self._waiting.append(line)
        if not self._some_wait.is_set():
            self._some_wait.set()

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """Leave the lines of `write_soon` to a thread: a write for each would cost a request more than its line."""
        self._in_background = True
        threading.Thread(target=self._write_waiting, name="log-sink", daemon=True).start()
        try:
            yield
        finally:
            self._in_background = False
            self._some_wait.set()
            self.write(b"")

    def _write_waiting(self) -> None:
        while self._in_background:
            self._some_wait.wait()
            time.sleep(_DELAY_SECONDS)
            self._some_wait.clear()
            self.write(b"")

    def _put(self, lines: bytes) -> None:
        if not lines:
            return
        stream = self._stream or sys.stdout.buffer
        stream.write(lines)
        stream.flush()
        if self._file is not None:
            self._file.handle(_record(lines.decode("utf-8", "replace").rstrip("\n")))

    # What structlog calls on a logger of any level: the line is ready, the level was judged before.
    def msg(self, line: bytes) -> None:
        self.write(line + b"\n")

    debug = info = warning = error = critical = exception = fatal = log = msg


def _record(line: str) -> LogRecord:
    return LogRecord("", 0, "", 0, line, None, None)


SINK = LogSink()
