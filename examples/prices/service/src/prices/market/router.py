"""The routes of the market: parse the request, call the service, build the response."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, WebSocket

from ..chassis.app import Chassis
from ..chassis.authentication.fastapi import require_scope
from ..chassis.request_context import Principal
from ..chassis.web.fastapi import get_chassis
from ..chassis.websocket.broadcaster import Broadcaster
from ..settings import Settings
from .poller import ALERTS
from .repository import open_repository
from .schemas import PriceIn, PriceList, PriceOut, PriceQuery
from .service import MarketService

router = APIRouter(tags=["market"])
InChassis = Annotated[Chassis, Depends(get_chassis)]


async def market_service(chassis: InChassis) -> AsyncIterator[MarketService]:
    """Open a unit of work for one request."""
    async with open_repository(chassis) as market:
        yield MarketService(market, chassis.settings_as(Settings).whale_threshold_btc)


# `scope="function"` commits before the response is sent, so a client that got 2xx can read its change.
Market = Annotated[MarketService, Depends(market_service, scope="function")]


@router.get("/prices", dependencies=[require_scope("prices:read")])
async def list_prices(query: Annotated[PriceQuery, Query()], market: Market) -> PriceList:
    return PriceList(items=[PriceOut.model_validate(price) for price in await market.newest_prices(query.limit)])


@router.post("/prices", status_code=201, dependencies=[require_scope("prices:write")])
async def add_price(price: PriceIn, market: Market) -> PriceOut:
    return PriceOut.model_validate(await market.add_price(price))


@router.websocket("/alerts")
async def listen(
    websocket: WebSocket, caller: Annotated[Principal, require_scope("prices:read")], chassis: InChassis
) -> None:
    """Send every alert until the client disconnects or its token expires."""
    rooms = chassis.get(Broadcaster)
    async with rooms.join(websocket, ALERTS, expires_at=caller.expires_at) as connection:
        async for _ in connection:
            pass  # clients only listen
