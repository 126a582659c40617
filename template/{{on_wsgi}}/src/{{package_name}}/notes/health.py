"""What `/health` says of the notes."""

from __future__ import annotations

from datetime import date, timedelta

from ..chassis.health.checks import Gaps
from ..chassis.health.registry import QUICK
from ..chassis.service import service_of
from .models import utc_now
from .repository import open_repository

DAYS = 7


def watch(app: object) -> None:
    """List the days of the last week that have no note, from the first note on. It is a warning, and never critical."""
    service = service_of(app)

    def days() -> set[date]:
        with open_repository(service) as notes:
            return notes.days(utc_now().date() - timedelta(days=DAYS))

    service.health.add(Gaps("notes", days, days=DAYS, since_first=True, timeout_share=QUICK))
