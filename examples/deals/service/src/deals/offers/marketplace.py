"""The offers of the marketplace, which is slow, and often unavailable for a moment."""

from __future__ import annotations

import httpx
import structlog
from pydantic import ValidationError

from ..chassis.app import Chassis
from ..chassis.errors import UnavailableError
from ..chassis.http_client.asyncio import http_client
from .schemas import MarketplaceOffer, MarketplacePage

log = structlog.get_logger(__name__)


async def fetch_offers(chassis: Chassis) -> tuple[list[MarketplaceOffer], int]:
    """Return the valid offers, and the number of records that are not valid. The client retries.

    Raises:
        UnavailableError: The marketplace cannot be reached, or its response is not a page of offers.
    """
    response = await http_client(chassis, "marketplace").get("/offers")
    try:
        page = MarketplacePage.model_validate_json(response.raise_for_status().content)
    except (httpx.HTTPStatusError, ValidationError) as error:
        raise UnavailableError("The marketplace sent no page of offers.") from error
    offers: dict[str, MarketplaceOffer] = {}
    invalid = 0
    for record in page.offers:
        try:
            offer = MarketplaceOffer.model_validate(record)
        except ValidationError as error:
            invalid += 1
            log.warning("offer_invalid", codes=sorted({fault["type"] for fault in error.errors()}))
        else:
            offers[offer.id] = offer
    return list(offers.values()), invalid
