"""The folder of the backups: their names, how one comes into being whole or not at all, and which ones go."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from . import BackupError

_SUFFIX = ".backup"
_PART = ".part"
_TIME = "%Y%m%dT%H%M%S.%f"


def path_for(directory: Path, service: str, moment: datetime) -> Path:
    """Return where the backup of a moment is kept: `orders-20260701T020000.000Z.backup`, in UTC."""
    return directory / f"{_plain(service)}-{moment.astimezone(UTC).strftime(_TIME)[:-3]}Z{_SUFFIX}"


def found(directory: Path, service: str) -> list[tuple[datetime, Path]]:
    """Return the backups of a service with their times, the newest first; nothing else that lies there."""
    form = re.compile(re.escape(_plain(service)) + r"-(\d{8}T\d{6}\.\d{3})Z" + re.escape(_SUFFIX))
    named = [(form.fullmatch(path.name), path) for path in directory.glob(f"*{_SUFFIX}")]
    times = [(datetime.strptime(name[1], _TIME).replace(tzinfo=UTC), path) for name, path in named if name]
    return sorted(times, reverse=True)


@contextmanager
def new_file(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open a file under another name; it gets its own when it is whole and on the disk, and goes when it is not.

    What is yielded is the path of the moment, too, so that the file can be read before it is taken for a backup.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        raise BackupError(f"{path} is there already")
    part = path.with_name(f".{path.name}{_PART}")
    try:
        # For the owner alone: all the data is in it.
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield part, file
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def prune(directory: Path, service: str, keep_count: int, keep_days: int, now: datetime) -> list[Path]:
    """Delete the backups that are too many or too old, never the newest, and what was left half-written."""
    oldest = now - timedelta(days=keep_days)
    backups = list(enumerate(found(directory, service)))
    gone = [path for index, (time, path) in backups if index and (index >= keep_count or time < oldest)]
    parts = directory.glob(f".{_plain(service)}-*{_SUFFIX}{_PART}")
    gone += [path for path in parts if path.stat().st_mtime < (now - timedelta(days=1)).timestamp()]
    for path in gone:
        path.unlink(missing_ok=True)
    return gone


def _plain(service: str) -> str:
    """Write a service's name with letters that every file system takes."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", service)


def _sync_folder(folder: Path) -> None:
    """Have the new name on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
