"""The commands `backup` and `restore`. A file that is damaged, foreign or half-written is refused with a sentence."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from datetime import time as time_of_day
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from ... import logging
from ... import settings as chassis_settings
from .. import jobs
from ..dialect import Dialect
from . import files

if TYPE_CHECKING:
    from ...cli import Program
    from .dump import Made

log = structlog.get_logger(__name__)


def add_commands(commands: Any, dialect: Dialect) -> None:
    """Add `backup` and `restore` to the service's commands."""
    backup = commands.add_parser("backup", help="back the database up, while the service runs")
    backup.add_argument("--daily-at", type=_time, metavar="HH:MM", help="stay, and do it every day at this time in UTC")
    backup.set_defaults(run=lambda program, options: _backup(program, options, dialect))
    restore = commands.add_parser("restore", help="bring the database back from a backup")
    restore.add_argument("file", type=Path, help="a path, or the name of a file in BACKUP_DIRECTORY")
    restore.add_argument("--replace", action="store_true", help="delete the rows that are there")
    restore.set_defaults(run=lambda program, options: _restore(program, options, dialect))


def _time(text: str) -> time_of_day:
    try:
        return datetime.strptime(text, "%H:%M").time()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 02:00") from None


def _backup(program: Program, options: argparse.Namespace, dialect: Dialect) -> int:
    settings: Any = chassis_settings.load(program.settings)
    if options.daily_at:
        with _ending_at_sigterm(0):
            _every_day(settings, options.daily_at, dialect)
    with _ending_at_sigterm():
        return jobs.run(lambda: print(_sentence(_make(settings, dialect))), "The backup was not made", dialect)


def _every_day(settings: Any, at: time_of_day, dialect: Dialect) -> None:
    """Make a backup a day until the process is told to end. What happens is logged, as a service does."""
    from . import schedule

    def make() -> None:
        new = _make(settings, dialect)
        numbers = {"rows": new.rows, "size_bytes": new.size_bytes, "seconds": round(new.seconds, 3)}
        log.info("backup_made", file=str(new.path), **numbers, deleted=new.deleted)

    def made() -> list[datetime]:
        return [moment for moment, _ in files.found(settings.backup_directory, settings.service_name)]

    logging.configure(settings)
    schedule.daily(make, made, at, clock=lambda: datetime.now(UTC), sleep=time.sleep)


def _make(settings: Any, dialect: Dialect) -> Made:
    from . import dump  # with the library of ciphers, which the service itself does not need

    return dialect.ask_service(settings) or dump.make(settings, dialect)


def _sentence(made: Made) -> str:
    old = f" {made.deleted} old files were deleted." if made.deleted else ""
    return f"{made.path}: {made.rows} rows, {made.size_bytes} bytes, in {made.seconds:.1f} s.{old}"


def _restore(program: Program, options: argparse.Namespace, dialect: Dialect) -> int:
    settings: Any = chassis_settings.load(program.settings)
    path = options.file
    if not path.exists() and path.name == str(path):
        path = settings.backup_directory / path

    def work() -> None:
        from .restore import restore

        began = time.monotonic()
        rows = restore(path, settings, dialect, replace=options.replace)
        seconds = time.monotonic() - began
        print(f"{path}: {rows} rows were restored in {seconds:.1f} s. Run migrate if this release is newer.")

    with _ending_at_sigterm():
        return jobs.run(work, "Nothing was restored", dialect)


@contextmanager
def _ending_at_sigterm(code: int = 128 + signal.SIGTERM) -> Iterator[None]:
    """Have SIGTERM end the work where it is: what is half-written is cleared away on the way out."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_signum: int, _frame: object) -> None:
        raise SystemExit(code)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
