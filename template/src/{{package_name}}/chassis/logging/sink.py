"""The sink of log entries: stdout (https://12factor.net/logs), and a rotating file for hosts that collect files."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from logging import LogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO

# How long to wait for a full non-blocking stream before its entry is lost.
_FULL_SECONDS = 1.0
# The colours of the console format. A file has none.
_COLOUR = re.compile("\x1b\\[\\d+m")


class LogSink:
    """Writes each entry as a whole, so that entries of different threads never mix."""

    def __init__(self, stream: IO[bytes] | None = None) -> None:
        self._stream = stream
        self._file: RotatingFileHandler | None = None
        self._lock = threading.Lock()
        self._pending: deque[bytes] = deque()

    def add_file(self, path: Path, max_bytes: int, backups: int) -> None:
        """Copy every entry to `path` too, rotated at `max_bytes`, with `backups` older files retained."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = RotatingFileHandler(path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8")

    def close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, entries: bytes) -> None:
        """Write one or more entries, each with its newline, as a whole.

        If the stream fails (full disk, closed pipe), entries are lost, because logging must never fail a request.
        """
        self._pending.append(entries)
        # Never wait for the lock: garbage collection may run a finalizer that logs while this thread holds it.
        while self._pending and self._lock.acquire(blocking=False):
            try:
                while self._pending:
                    self._write(self._pending.popleft())
            finally:
                self._lock.release()

    def _write(self, entries: bytes) -> None:
        with suppress(OSError, ValueError):
            _write_all(self._stream or sys.stdout.buffer, entries)
        if self._file is not None:
            text = _COLOUR.sub("", entries.decode("utf-8", "replace").rstrip("\n"))
            self._file.handle(LogRecord("", 0, "", 0, text, None, None))

    def msg(self, entry: bytes) -> None:
        """Write one rendered entry."""
        self.write(entry + b"\n")


def _write_all(stream: IO[bytes], entries: bytes) -> None:
    """Write everything: an unbuffered stream may accept only a part, and a full non-blocking one nothing."""
    deadline = time.monotonic() + _FULL_SECONDS
    left = memoryview(entries)
    while left and time.monotonic() < deadline:
        written = stream.write(left)
        if written is None:
            time.sleep(0.01)
        left = left[written or 0 :]
    stream.flush()


SINK = LogSink()
