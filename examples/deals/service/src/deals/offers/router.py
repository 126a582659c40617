"""The routes of the offers: parse the request, call the service, build the response."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from ..chassis.app import Chassis
from ..chassis.web.fastapi import get_chassis
from ..settings import Settings
from .alerts import alert_with
from .marketplace import fetch_offers
from .repository import open_repository
from .schemas import ImportResult, OfferList, OfferOut, OfferQuery
from .service import OfferService

router = APIRouter(tags=["offers"])
InChassis = Annotated[Chassis, Depends(get_chassis)]


@asynccontextmanager
async def offer_service(chassis: Chassis) -> AsyncIterator[OfferService]:
    """Open a unit of work. It commits before the response is sent, so a client that got 2xx can read its change."""
    async with open_repository(chassis) as offers:
        yield OfferService(offers, alert_with(chassis, offers), chassis.settings_as(Settings).alert_score)


@router.post("/imports", status_code=201)
async def import_offers(chassis: InChassis) -> ImportResult:
    found, invalid = await fetch_offers(chassis)  # outside of the unit of work, which would hold a connection
    async with offer_service(chassis) as offers:
        return await offers.store(found, invalid)


@router.get("/offers")
async def list_offers(query: Annotated[OfferQuery, Query()], chassis: InChassis) -> OfferList:
    async with offer_service(chassis) as offers:
        found = await offers.best(query.min_score, query.limit)
        return OfferList(items=[OfferOut.model_validate(offer) for offer in found])
