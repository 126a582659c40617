"""The folder of the backups: names, complete files only, and retention."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

_TIME = "%Y%m%dT%H%M%S.%f"


def path_for(directory: Path, service: str, moment: datetime, *, is_encrypted: bool) -> Path:
    """Return the path of a backup: `orders-20260701T020000.000Z.tar.gz`, or `.tar.gz.age`, with its time in UTC."""
    name = f"{_plain(service)}-{moment.astimezone(UTC).strftime(_TIME)[:-3]}Z.tar.gz"
    return directory / (f"{name}.age" if is_encrypted else name)


def found(directory: Path, service: str) -> list[tuple[datetime, Path]]:
    """Return the backups of a service with their times, the newest first."""
    form = re.compile(re.escape(_plain(service)) + r"-(\d{8}T\d{6}\.\d{3})Z\.tar\.gz(\.age)?")
    named = [(form.fullmatch(path.name), path) for path in directory.glob("*.tar.gz*")]
    times = [(datetime.strptime(name[1], _TIME).replace(tzinfo=UTC), path) for name, path in named if name]
    return sorted(times, reverse=True)


@contextmanager
def work_folder(directory: Path, service: str) -> Iterator[Path]:
    """Create a folder for unencrypted data that only this user can read, and delete it afterwards."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = directory / f".{_plain(service)}-{secrets.token_hex(8)}.part"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(part: Path, directory: Path, service: str, moment: datetime, *, is_encrypted: bool) -> Path:
    """Rename a complete file once it is on the disk, so that a partial file never looks like a backup.

    Two backups may begin in the same millisecond. The later one then gets the next name that is free.
    """
    part.chmod(0o600)
    _sync(part)
    while (path := path_for(directory, service, moment, is_encrypted=is_encrypted)).exists():
        moment += timedelta(milliseconds=1)
    part.rename(path)
    _sync(directory)
    return path


def prune(directory: Path, service: str, keep_count: int, keep_days: int, now: datetime, *, kept: Path | None) -> int:
    """Delete backups beyond a number or an age, but neither the newest nor `kept`. Return how many were deleted.

    If the clock was set back, the backup that was just made is not the newest. Incomplete files of killed commands are
    deleted after a day.
    """
    oldest = now - timedelta(days=keep_days)
    old = [(time, path) for time, path in found(directory, service)[1:] if path != kept]
    expired = [path for index, (time, path) in enumerate(old, 1) if index >= keep_count or time < oldest]
    for path in expired:
        path.unlink(missing_ok=True)
    for part in directory.glob(f".{_plain(service)}-*.part"):
        if part.stat().st_mtime < (now - timedelta(days=1)).timestamp():
            shutil.rmtree(part, ignore_errors=True)
    return len(expired)


def _plain(service: str) -> str:
    """Return a service's name in characters that every file system accepts."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", service)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
