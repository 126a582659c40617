"""The daily schedule of backups. It needs no cron: one process keeps the time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, time, timedelta
from typing import NoReturn

import structlog

log = structlog.get_logger(__name__)

# Pause in seconds after a failure, before the next try.
RETRY_SECONDS = 300.0
# How often the clock is read: somebody may set it, and a machine may sleep.
_CLOCK_INTERVAL_SECONDS = 60.0


def due(times: Iterable[datetime], at: time, now: datetime) -> datetime:
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
    at: time,
    clock: Callable[[], datetime],
    sleep: Callable[[float], object],
) -> NoReturn:
    """Call `make` whenever a backup is due, and again after `RETRY_SECONDS` if it raises."""
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
        except Exception as error:
            log.error("backup_failed", error=str(error), retry_seconds=RETRY_SECONDS)
            sleep(RETRY_SECONDS)
