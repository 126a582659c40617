"""Where log lines go: stdout (https://12factor.net/logs), and a rotating file for hosts that collect files."""

from __future__ import annotations

import sys
from logging import LogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import BinaryIO


class LogSink:
    """Writes whole lines, so that the lines of many threads never mix."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream
        self._file: RotatingFileHandler | None = None

    def add_file(self, path: Path, max_bytes: int, backups: int) -> None:
        """Copy every line to `path` too, rotated at `max_bytes`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = RotatingFileHandler(path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8")

    def close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, line: bytes) -> None:
        """Write one line, its newline included."""
        stream = self._stream or sys.stdout.buffer
        stream.write(line)
        stream.flush()
        if self._file is not None:
            self._file.handle(_record(line.decode("utf-8", "replace").rstrip("\n")))

    # What structlog calls on a logger of any level: the line is ready, the level was judged before.
    def msg(self, line: bytes) -> None:
        self.write(line + b"\n")

    debug = info = warning = error = critical = exception = fatal = log = msg


def _record(line: str) -> LogRecord:
    return LogRecord("", 0, "", 0, line, None, None)


SINK = LogSink()
