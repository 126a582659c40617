"""The commands `backup` and `restore`. If they fail, they print one sentence on stderr."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from datetime import time as time_of_day
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from ..database import maintenance
from ..logging import config as logging
from ..settings import load, view
from . import BackupError, DatabaseBackup, Settings, files, schedule

if TYPE_CHECKING:
    from ..cli import Program

log = structlog.get_logger(__name__)


def add_commands(commands: Any, backup: DatabaseBackup) -> None:
    """Add `backup` and `restore` to the commands of the service."""
    make = commands.add_parser("backup", help="back up the database while the service runs")
    modes = make.add_mutually_exclusive_group()
    modes.add_argument("--daily-at", type=_time, metavar="HH:MM", help="keep running; do it daily at this time in UTC")
    modes.add_argument("--verify", action="store_true", help="also restore the backup into a scratch database")
    modes.add_argument("--new-key", action="store_true", help="only print a new key for BACKUP_KEY")
    make.set_defaults(run=lambda program, options: _backup(program, options, backup))
    restore = commands.add_parser("restore", help="restore the database from a backup")
    restore.add_argument("file", type=Path, help="a path, or the name of a file in BACKUP_DIRECTORY")
    restore.add_argument("--replace", action="store_true", help="delete the rows that are in the database")
    restore.set_defaults(run=lambda program, options: _restore(program, options, backup))


def _time(text: str) -> time_of_day:
    try:
        return datetime.strptime(text, "%H:%M").time()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; use the form 02:00") from None


def _backup(program: Program, options: argparse.Namespace, backup: DatabaseBackup) -> int:
    if options.new_key:
        from .archive import new_key  # imported late: a service without a key does not need it

        print(new_key())
        return 0
    settings = view(load(program.settings), Settings)
    if options.daily_at:
        _exit_at_sigterm(0)
        _every_day(settings, program, options.daily_at, backup)

    def work() -> None:
        made = backup.make(settings)
        deleted = f" {made.deleted} expired backups were deleted." if made.deleted else ""
        print(f"{made.path}: {made.size_bytes} bytes in {made.seconds:.1f} s.{deleted}")
        if options.verify:
            from .make import verify

            began = time.monotonic()
            verify(made.path, settings, backup)
            print(f"{made.path}: restored into a scratch database in {time.monotonic() - began:.1f} s.")

    return _run(work, "The backup failed", backup)


def _every_day(settings: Settings, program: Program, at: time_of_day, backup: DatabaseBackup) -> None:
    """Make a backup every day until SIGTERM, and log in the same format as the service."""

    def make() -> None:
        made = backup.make(settings)
        seconds = round(made.seconds, 3)
        log.info("backup_made", file=str(made.path), size_bytes=made.size_bytes, seconds=seconds, deleted=made.deleted)

    def times() -> list[datetime]:
        return [moment for moment, _ in files.found(settings.backup_directory, settings.service_name)]

    logging.configure(view(load(program.settings), logging.Settings))
    schedule.daily(make, times, at, lambda: datetime.now(UTC), time.sleep)


def _restore(program: Program, options: argparse.Namespace, backup: DatabaseBackup) -> int:
    settings = view(load(program.settings), Settings)
    in_folder = settings.backup_directory / options.file
    path = options.file if options.file.exists() or not in_folder.exists() else in_folder

    def work() -> None:
        from .restore import restore

        began = time.monotonic()
        restore(path, settings, backup, replace=options.replace)
        seconds = time.monotonic() - began
        print(f"{path}: restored in {seconds:.1f} s. If this release is newer than the backup, run migrate.")

    return _run(work, "Nothing was restored", backup)


def _run(work: Callable[[], None], failure: str, backup: DatabaseBackup) -> int:
    _exit_at_sigterm(128 + signal.SIGTERM)
    try:
        return maintenance.run(work, failure, backup.backend)
    except BackupError as error:
        print(f"{failure}: {error}", file=sys.stderr)
        return error.exit_code


def _exit_at_sigterm(code: int) -> None:
    """Make SIGTERM raise SystemExit, so that unfinished files are deleted."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda _signum, _frame: sys.exit(code))
