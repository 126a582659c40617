"""The business logic of the offers. A service never commits a transaction and does not handle HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..chassis.instrumentation import Counter
from .models import Offer
from .repository import OfferRepository
from .schemas import ImportResult, MarketplaceOffer
from .scoring import score

OFFERS_IMPORTED = Counter("offers.imported", "Offers imported from the marketplace.")


class OfferService:
    """The operations on offers, within one unit of work. `alert` reports an offer within the same unit of work."""

    def __init__(self, offers: OfferRepository, alert: Callable[[Offer], Awaitable[object]], alert_score: int) -> None:
        self._offers = offers
        self._alert = alert
        self._alert_score = alert_score

    async def store(self, found: list[MarketplaceOffer], invalid: int) -> ImportResult:
        """Store the offers that are new, and report those with a high score."""
        known = await self._offers.known([offer.id for offer in found])
        new = [offer for offer in found if offer.id not in known]
        for offer in new:
            stored = await self._offers.add(
                Offer(
                    marketplace_id=offer.id,
                    title=offer.title,
                    url=offer.url,
                    price=offer.price.amount,
                    currency=offer.price.currency,
                    score=score(offer.price.amount, offer.usual_price.amount, offer.rating),
                )
            )
            OFFERS_IMPORTED.add()
            if stored.score >= self._alert_score:
                await self._alert(stored)
        return ImportResult(new=len(new), known=len(known), invalid=invalid)

    async def best(self, min_score: int, limit: int) -> list[Offer]:
        return await self._offers.best(min_score, limit)
