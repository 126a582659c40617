"""All SQL of the tracker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date, datetime

from sqlalchemy import Date, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from ..chassis.app import Chassis
from ..chassis.database.asyncio import Database
from ..chassis.database.session import after_commit
from .models import Cup, HeartRate


class TrackerRepository:
    """The cups and heart rates, within one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, row: Cup | HeartRate) -> None:
        self._session.add(row)
        await self._session.flush()

    def after_commit(self, hook: Callable[[], Awaitable[object]]) -> None:
        """Call a function after the commit; after a rollback it is not called."""
        after_commit(self._session, hook)

    async def cups_since(self, start: datetime) -> list[Cup]:
        return list(await self._session.scalars(select(Cup).where(Cup.drunk_at >= start).order_by(Cup.drunk_at)))

    async def heart_rates_since(self, start: datetime) -> list[HeartRate]:
        query = select(HeartRate).where(HeartRate.measured_at >= start).order_by(HeartRate.measured_at)
        return list(await self._session.scalars(query))

    async def days(self) -> list[tuple[date, int, float]]:
        """Return the caffeine and the mean heart rate of each day that has both."""
        day_of_cup = cast(func.timezone("UTC", Cup.drunk_at), Date)
        day_of_rate = cast(func.timezone("UTC", HeartRate.measured_at), Date)
        cups = select(day_of_cup.label("day"), func.sum(Cup.caffeine_mg).label("caffeine")).group_by("day").subquery()
        mean = func.avg(HeartRate.beats_per_minute).label("mean")
        rates = select(day_of_rate.label("day"), mean).group_by("day").subquery()
        query = select(cups.c.day, cups.c.caffeine, rates.c.mean).join(rates, cups.c.day == rates.c.day)
        return [(day, int(caffeine), float(rate)) for day, caffeine, rate in await self._session.execute(query)]


@asynccontextmanager
async def open_repository(chassis: Chassis) -> AsyncIterator[TrackerRepository]:
    """Open a unit of work: commit when the block ends, roll back when it raises an exception."""
    async with chassis.get(Database).session() as session:
        yield TrackerRepository(session)
