"""Tasks that call the upstreams: prices are stored, and large transfers are sent to all listening clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import httpx
import structlog
from pydantic import TypeAdapter, ValidationError

from ..chassis.app import Chassis
from ..chassis.errors import UnavailableError
from ..chassis.http_client.asyncio import add_http_client, http_client
from ..chassis.instrumentation import Counter
from ..chassis.lifecycle import Lifespan
from ..chassis.websocket.broadcaster import Broadcaster
from ..settings import Settings
from .repository import MarketRepository, open_repository
from .schemas import SPOT, TRANSFERS, PriceIn
from .service import MarketService

log = structlog.get_logger(__name__)

ALERTS = "whales"
WHALES = Counter("whales", "Large transfers that were reported.")
T = TypeVar("T")


async def fetch(chassis: Chassis, upstream: str, path: str, kind: TypeAdapter[T]) -> T:
    """Return a valid response of an upstream.

    Raises:
        UnavailableError: The upstream cannot be reached, or its response is not valid.
    """
    response = await http_client(chassis, upstream).get(path)
    try:
        return kind.validate_json(response.raise_for_status().content)
    except (httpx.HTTPStatusError, ValidationError) as error:
        raise UnavailableError(f"The upstream {upstream} sent no valid response.") from error


async def poll_spot(chassis: Chassis) -> None:
    """Store the current price."""
    spot = await fetch(chassis, "spot", "/price", SPOT)
    async with open_repository(chassis) as market:
        await _service(chassis, market).add_price(PriceIn(usd=spot.usd))


async def poll_chain(chassis: Chassis) -> None:
    """Report each large transfer once, after it is stored."""
    transfers = await fetch(chassis, "chain", "/transfers", TRANSFERS)
    async with open_repository(chassis) as market:
        whales = await _service(chassis, market).new_whales(transfers)
    for whale in whales:
        WHALES.add()
        await chassis.get(Broadcaster).send(ALERTS, whale.model_dump(mode="json"))


def _service(chassis: Chassis, market: MarketRepository) -> MarketService:
    return MarketService(market, chassis.settings_as(Settings).whale_threshold_btc)


def add_pollers(chassis: Chassis) -> None:
    """Add the client and the task of each upstream that has an address."""
    settings = chassis.settings_as(Settings)
    for name, url, poll in (("spot", settings.spot_url, poll_spot), ("chain", settings.chain_url, poll_chain)):
        if url:
            add_http_client(chassis, name, url)
            chassis.lifespans.append((f"poller_{name}", _lifespan(chassis, name, poll)))


def _lifespan(chassis: Chassis, name: str, poll: Callable[[Chassis], Awaitable[None]]) -> Lifespan:
    interval_seconds = chassis.settings_as(Settings).poll_interval_seconds

    async def work() -> None:
        while True:
            try:
                await poll(chassis)
            except Exception as error:  # the task must outlive every fault of an upstream
                log.warning("poll_failed", upstream=name, cause=type(error).__name__)
            await asyncio.sleep(interval_seconds)

    @asynccontextmanager
    async def run() -> AsyncIterator[None]:
        task = asyncio.create_task(work())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return run
