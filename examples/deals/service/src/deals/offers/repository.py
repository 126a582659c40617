"""All SQL of the offers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from ..chassis.app import Chassis
from ..chassis.database.asyncio import Database
from .models import Offer


class OfferRepository:
    """The offers, within one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def add(self, offer: Offer) -> Offer:
        self.session.add(offer)
        await self.session.flush()
        return offer

    async def known(self, marketplace_ids: Collection[str]) -> set[str]:
        """Return those of the ids that are stored."""
        query = select(Offer.marketplace_id).where(Offer.marketplace_id.in_(marketplace_ids))
        return set(await self.session.scalars(query))

    async def best(self, min_score: int, limit: int) -> list[Offer]:
        query = select(Offer).where(Offer.score >= min_score).order_by(Offer.score.desc(), Offer.id).limit(limit)
        return list(await self.session.scalars(query))


@asynccontextmanager
async def open_repository(chassis: Chassis) -> AsyncIterator[OfferRepository]:
    """Open a unit of work: commit when the block ends, roll back when it raises an exception."""
    async with chassis.get(Database).session() as session:
        yield OfferRepository(session)
