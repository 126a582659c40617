"""When the next backup is due, and the loop that makes it. Nothing but this process keeps the time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, time, timedelta
from typing import NoReturn

import structlog

log = structlog.get_logger(__name__)

# How long after a failure it is tried again, in seconds.
RETRY_SECONDS = 300.0
# The clock is looked at so often: it may be set, and a machine may sleep.
_LOOK_SECONDS = 60.0


def due(newest: datetime | None, at: time) -> datetime | None:
    """Return the first moment after the newest backup at which there should be one; None: there is none, so now.

    A moment that was missed stays due, however late it is.
    """
    if newest is None:
        return None
    planned = datetime.combine(newest.date(), at, UTC)
    return planned if planned > newest else planned + timedelta(days=1)


def daily(
    make: Callable[[], object],
    made: Callable[[], Iterable[datetime]],
    at: time,
    *,
    clock: Callable[[], datetime],
    sleep: Callable[[float], object],
) -> NoReturn:
    """Call `make()` every day at the time `at`, in UTC, and again after a while when it fails.

    `made()` are the times of the backups that are there. One of the future was made by a clock that was wrong.
    """
    announced: datetime | None = None
    while True:
        now = clock()
        moment = due(max((past for past in made() if past <= now), default=None), at) or now
        if moment > now:
            if moment != announced:
                log.info("backup_scheduled", due=moment.isoformat())
                announced = moment
            sleep(min((moment - now).total_seconds(), _LOOK_SECONDS))
            continue
        try:
            make()
        except Exception as error:
            log.error("backup_failed", error=str(error), retry_seconds=RETRY_SECONDS)
            sleep(RETRY_SECONDS)
