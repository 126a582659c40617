"""The routes of the tracker: parse the request, call the service, build the response."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends

from ..chassis.app import Chassis
from ..chassis.authentication.fastapi import require_scope
from ..chassis.cache.asyncio import Cache
from ..chassis.web.fastapi import get_chassis
from .repository import open_repository
from .schemas import Correlation, CupIn, CupOut, HeartRateIn, HeartRateOut, Today
from .service import TrackerService

router = APIRouter(tags=["tracker"], dependencies=[require_scope("tracker:read")])
may_write = [require_scope("tracker:write")]


async def tracker_service(chassis: Annotated[Chassis, Depends(get_chassis)]) -> AsyncIterator[TrackerService]:
    """Open a unit of work for one request."""
    async with open_repository(chassis) as rows:
        yield TrackerService(rows, chassis.get(Cache))


# `scope="function"` commits before the response is sent, so a client that got 2xx can read its change.
Tracker = Annotated[TrackerService, Depends(tracker_service, scope="function")]


@router.post("/cups", status_code=201, dependencies=may_write)
async def drink(cup: CupIn, tracker: Tracker) -> CupOut:
    return CupOut.model_validate(await tracker.drink(cup))


@router.post("/heart-rates", status_code=201, dependencies=may_write)
async def measure(rate: HeartRateIn, tracker: Tracker) -> HeartRateOut:
    return HeartRateOut.model_validate(await tracker.measure(rate))


@router.get("/today")
async def read_today(tracker: Tracker) -> Today:
    return await tracker.today()


@router.get("/correlation")
async def read_correlation(tracker: Tracker) -> Correlation:
    return await tracker.correlation()
