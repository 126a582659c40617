"""The business logic of the market. A service never commits a transaction and does not handle HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from .models import Price, Whale
from .repository import MarketRepository
from .schemas import PriceIn, Transfer, utc_now


class MarketService:
    """The operations on prices and transfers, within one unit of work."""

    def __init__(self, market: MarketRepository, whale_threshold_btc: Decimal) -> None:
        self._market = market
        self._threshold = whale_threshold_btc

    async def add_price(self, price: PriceIn) -> Price:
        row = Price(**price.model_dump())
        await self._market.add(row)
        return row

    async def newest_prices(self, limit: int) -> list[Price]:
        return await self._market.newest(limit)

    async def new_whales(self, transfers: Iterable[Transfer]) -> list[Transfer]:
        """Store the large transfers that were not reported before, and return them."""
        found = []
        for transfer in transfers:
            if transfer.btc >= self._threshold and not await self._market.is_reported(transfer.id):
                await self._market.add(Whale(transfer_id=transfer.id, btc=transfer.btc, reported_at=utc_now()))
                found.append(transfer)
        return found
