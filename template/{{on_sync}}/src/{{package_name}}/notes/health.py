"""The health check of the notes."""

from __future__ import annotations

from datetime import date, timedelta

from ..chassis.app import chassis_of
from ..chassis.health.checks import QUICK, MissingDays
from .models import utc_now
from .repository import open_repository

DAYS = 7


def add_health_check(app: object) -> None:
    """Warn in `/health` if the last week has days without notes.

    Days before the first one do not count.
    """
    chassis = chassis_of(app)

    def days() -> set[date]:
        with open_repository(chassis) as notes:
            return notes.days(utc_now().date() - timedelta(days=DAYS))

    chassis.health.add(MissingDays("notes", days, days=DAYS, since_first=True, timeout_fraction=QUICK))
