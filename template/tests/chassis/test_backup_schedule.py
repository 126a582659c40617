"""The daily schedule of backups: it catches up, retries, and ends at SIGTERM."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path

import pytest

from ..package import PACKAGE, module, program
from .process import Process, until
from .test_backup import KEY, crew, database, newest

__all__ = ["crew", "database"]  # fixtures

cli = module("chassis.cli")
commands = module("chassis.backup.commands")
BackupError = module("chassis.backup").BackupError

TWO = time_of_day(2, 0)


@pytest.mark.parametrize(
    ("newest", "due"),
    [
        (None, None),
        ("2026-07-10T01:59:59", "2026-07-10T02:00:00"),
        ("2026-07-10T02:00:00", "2026-07-11T02:00:00"),
        ("2026-07-10T13:00:00", "2026-07-11T02:00:00"),
        ("2026-12-31T23:00:00", "2027-01-01T02:00:00"),
    ],
)
def test_schedule_is_due_once_a_day(newest: str | None, due: str | None) -> None:
    """A backup is due at the set time in UTC, or at once if there is none. A backup from the future does not count."""
    now = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)
    moments = [datetime.fromisoformat(f"{text}+00:00") if text else None for text in (newest, due)]
    times = [moment for moment in (moments[0], datetime(2030, 1, 1, tzinfo=UTC)) if moment]
    assert commands.due(times, TWO, now) == (moments[1] or now)


class EndError(Exception):
    """The end of a test's time."""


def test_schedule_catches_up_and_retries() -> None:
    """A missed backup is made late, a failed one is retried after a pause, and clock changes do no harm."""
    now = [datetime(2026, 7, 10, 12, 0, tzinfo=UTC)]
    made = [datetime(2026, 7, 8, 2, 0, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)]
    tries: list[str] = []

    def make_one() -> None:
        tries.append(f"{now[0]:%d %H:%M}")
        if len(tries) == 2:
            raise BackupError("the disk is full")
        made.insert(0, now[0])

    def sleep(seconds: float) -> None:
        assert 0 < seconds <= commands.RETRY_SECONDS
        now[0] += timedelta(seconds=seconds)
        if now[0].day == 13:
            raise EndError

    with pytest.raises(EndError):
        commands.daily(make_one, lambda: made, TWO, lambda: now[0], sleep)
    assert tries == ["10 12:00", "11 02:00", "11 02:05", "12 02:00"]


def test_scheduled_process_makes_the_first_backup_at_once_and_stops_at_sigterm(crew: Path, folder: Path) -> None:
    """The process logs in the same format as the service."""
    in_half_a_day = datetime.now(UTC) + timedelta(hours=12)
    process = Process(folder, PACKAGE, "backup", "--daily-at", f"{in_half_a_day:%H:%M}", BACKUP_KEY=KEY)
    try:
        until(lambda: process.events("backup_scheduled"))
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
    finally:
        process.popen.kill()
    (made,) = process.events("backup_made")
    assert made["size_bytes"] == newest().stat().st_size
    assert KEY not in str(process.lines) + process.stderr
    assert process.stderr == ""


def test_backup_at_an_invalid_time_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(program(), ["backup", "--daily-at", "26:00"])
    assert "'26:00' is not a time; use the form 02:00" in capsys.readouterr().err
