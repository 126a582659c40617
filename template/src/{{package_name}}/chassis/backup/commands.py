"""The commands `backup` and `restore`, and the daily schedule of backups.

If a command fails, it prints one sentence on stderr. The schedule needs no cron: one process runs all the time.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import structlog

from ..database import maintenance
from ..database.connection import as_settings_error
from ..lifecycle import EX_CONFIG
from ..logging import config as logging
from ..settings import SettingsError, load, view
from . import BackupError, DatabaseBackup, Settings, archive

if TYPE_CHECKING:
    from ..cli import Program

log = structlog.get_logger(__name__)

# Pause in seconds after a failure, before the next try.
RETRY_SECONDS = 300.0
# How often the clock is read, because somebody may set it, and a machine may sleep.
_CLOCK_INTERVAL_SECONDS = 60.0


def add_commands(commands: Any, backup: DatabaseBackup) -> None:
    """Add `backup` and `restore` to the commands of the service."""
    make = commands.add_parser("backup", help="back up the database while the service runs")
    modes = make.add_mutually_exclusive_group()
    modes.add_argument("--daily-at", type=_time, metavar="HH:MM", help="keep running; back up daily at this UTC time")
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
        print(archive.new_key())
        return 0
    settings = view(load(program.settings), Settings)
    if options.daily_at:
        _exit_at_sigterm(0)
        return _every_day(settings, program, options.daily_at, backup)

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


def _every_day(settings: Settings, program: Program, at: time_of_day, backup: DatabaseBackup) -> int:
    """Make a backup every day until SIGTERM, and log in the same format as the service.

    It ends with 78 if the database rejects the URL, because only a new process reads corrected settings.
    """

    def make() -> None:
        with as_settings_error(backup.backend):
            made = backup.make(settings)
        seconds = round(made.seconds, 3)
        log.info("backup_made", file=str(made.path), size_bytes=made.size_bytes, seconds=seconds, deleted=made.deleted)

    def times() -> list[datetime]:
        return [moment for moment, _ in archive.found(settings.backup_directory, settings.service_name)]

    logging.configure(view(load(program.settings), logging.Settings))
    try:
        daily(make, times, at, lambda: datetime.now(UTC), time.sleep)
    except SettingsError as error:
        log.error("backup_failed", error=str(error))
        return EX_CONFIG


def due(times: Iterable[datetime], at: time_of_day, now: datetime) -> datetime:
    """Return when the next backup is due: at the first `at` in UTC after the newest one, or now if there is none.

    A moment that was missed stays due. Times in the future are ignored: they come from a wrong clock.
    """
    newest = max((past for past in times if past <= now), default=None)
    if newest is None:
        return now
    planned = datetime.combine(newest.date(), at, UTC)
    return planned if planned > newest else planned + timedelta(days=1)


def daily(
    make: Callable[[], object],
    times: Callable[[], Iterable[datetime]],
    at: time_of_day,
    clock: Callable[[], datetime],
    sleep: Callable[[float], object],
) -> NoReturn:
    """Call `make` whenever a backup is due, and again after `RETRY_SECONDS` if it fails.

    Raises:
        SettingsError: The settings must be corrected first.
    """
    announced = None
    while True:
        now = clock()
        moment = due(times(), at, now)
        if moment > now:
            if moment != announced:
                log.info("backup_scheduled", due=moment.isoformat())
                announced = moment
            sleep(min((moment - now).total_seconds(), _CLOCK_INTERVAL_SECONDS))
            continue
        try:
            make()
        except SettingsError:
            raise
        except Exception as error:
            log.error("backup_failed", error=str(error).partition("\n")[0], retry_seconds=RETRY_SECONDS)
            sleep(RETRY_SECONDS)


def _restore(program: Program, options: argparse.Namespace, backup: DatabaseBackup) -> int:
    settings = view(load(program.settings), Settings)
    in_folder = settings.backup_directory / options.file
    path = options.file if options.file.exists() or not in_folder.exists() else in_folder

    def work() -> None:
        from .restore import restore

        if not path.exists():
            raise BackupError(f"{path} does not exist here or in BACKUP_DIRECTORY ({settings.backup_directory})")
        began = time.monotonic()
        restore(path, settings, backup, replace=options.replace)
        seconds = time.monotonic() - began
        print(f"{path}: restored in {seconds:.1f} s. If an older release made it, run `{maintenance.MIGRATE}`.")

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
