"""The business logic of the tracker. A service never commits a transaction and does not handle HTTP."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from statistics import StatisticsError, correlation

from ..chassis.cache.asyncio import Cache
from ..chassis.instrumentation import Counter
from .models import Cup, HeartRate
from .repository import TrackerRepository
from .schemas import Correlation, CupIn, CupOut, HeartRateIn, HeartRateOut, Today, utc_now

CUPS = Counter("cups", "Cups of coffee.")
# The key of the cached correlation, which reads every row. A change deletes it.
CORRELATION = "correlation"
CACHE_SECONDS = 3600.0


class TrackerService:
    """The operations of the tracker, within one unit of work."""

    def __init__(self, rows: TrackerRepository, cache: Cache, clock: Callable[[], datetime] = utc_now) -> None:
        self._rows = rows
        self._cache = cache
        self._clock = clock

    async def drink(self, cup: CupIn) -> Cup:
        row = Cup(**cup.model_dump())
        await self._add(row)
        CUPS.add()
        return row

    async def measure(self, rate: HeartRateIn) -> HeartRate:
        row = HeartRate(**rate.model_dump())
        await self._add(row)
        return row

    async def _add(self, row: Cup | HeartRate) -> None:
        await self._rows.add(row)
        # Before the commit, another request would cache the old value again.
        self._rows.after_commit(lambda: self._cache.delete(CORRELATION))

    async def today(self) -> Today:
        midnight = self._clock().replace(hour=0, minute=0, second=0, microsecond=0)
        cups = [CupOut.model_validate(cup) for cup in await self._rows.cups_since(midnight)]
        rates = [HeartRateOut.model_validate(rate) for rate in await self._rows.heart_rates_since(midnight)]
        return Today(cups=cups, heart_rates=rates, caffeine_mg=sum(cup.caffeine_mg for cup in cups))

    async def correlation(self) -> Correlation:
        async def compute() -> dict[str, object]:
            return correlate([(caffeine, rate) for _, caffeine, rate in await self._rows.days()]).model_dump()

        return Correlation.model_validate(await self._cache.get_or_compute(CORRELATION, compute, CACHE_SECONDS))


def correlate(days: list[tuple[int, float]]) -> Correlation:
    """Return the correlation of the two numbers of each day."""
    try:
        coefficient = correlation([caffeine for caffeine, _ in days], [rate for _, rate in days])
    except StatisticsError:  # too few days, or one of them is constant
        return Correlation(days=len(days), coefficient=None)
    return Correlation(days=len(days), coefficient=round(coefficient, 4))
