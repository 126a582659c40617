"""All SQL of the market."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date

from sqlalchemy import Date, cast, select
from sqlalchemy.ext.asyncio import AsyncSession

from ..chassis.app import Chassis
from ..chassis.database.asyncio import Database
from .models import Price, Whale


class MarketRepository:
    """The prices and large transfers, within one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, row: Price | Whale) -> None:
        self._session.add(row)
        await self._session.flush()

    async def newest(self, limit: int) -> list[Price]:
        return list(await self._session.scalars(select(Price).order_by(Price.observed_at.desc()).limit(limit)))

    async def is_reported(self, transfer_id: str) -> bool:
        return await self._session.get(Whale, transfer_id) is not None

    async def days(self) -> set[date]:
        """Return every day in UTC that has a price."""
        return set(await self._session.scalars(select(cast(Price.observed_at, Date)).distinct()))


@asynccontextmanager
async def open_repository(chassis: Chassis) -> AsyncIterator[MarketRepository]:
    """Open a unit of work: commit when the block ends, roll back when it raises an exception."""
    async with chassis.get(Database).session() as session:
        yield MarketRepository(session)
