"""The health checks of the market: both upstreams, and the days of the last week without a price."""

from __future__ import annotations

from datetime import date

from ..chassis.app import Chassis
from ..chassis.health.checks import QUICK, MissingDays
from ..chassis.http_client.health import Upstream
from ..settings import Settings
from .repository import open_repository


def add_health_checks(chassis: Chassis) -> None:
    """Warn if an upstream or a day is missing. Days before the first price do not count."""
    settings = chassis.settings_as(Settings)
    for name, url in (("spot", f"{settings.spot_url}/price"), ("chain", f"{settings.chain_url}/transfers")):
        if not url.startswith("/"):
            chassis.health.add(Upstream(name, url))

    async def days() -> set[date]:
        async with open_repository(chassis) as market:
            return await market.days()

    chassis.health.add(MissingDays("prices", days, days=7, since_first=True, timeout_fraction=QUICK))
