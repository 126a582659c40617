"""The reserve, which an external node holds, and its ratio to the open claims."""

from __future__ import annotations

from decimal import Decimal

import httpx
from pydantic import BaseModel, ValidationError

from ..chassis.app import Chassis
from ..chassis.cache.sync import Cache
from ..chassis.errors import UnavailableError
from ..chassis.health.checks import Threshold
from ..chassis.http_client.health import Upstream
from ..chassis.http_client.sync import add_http_client, http_client
from ..settings import Settings
from .repository import OPEN_CLAIMS, open_repository
from .schemas import ReserveOut

CACHE_SECONDS = 60.0


class Balance(BaseModel):
    """The response of the node."""

    balance: Decimal


class Reserves:
    """Compares the reserve with the open claims."""

    def __init__(self, chassis: Chassis) -> None:
        self._chassis = chassis
        self._settings = chassis.settings_as(Settings)

    def report(self, *, retry: bool | None = None) -> ReserveOut:
        """Return both sums and their ratio. If no claim is open, the ratio is the reserve itself.

        Raises:
            UnavailableError: The node, or the database, is unavailable.
        """
        reserve, open_claims = self._reserve(retry), self._open_claims()
        ratio = float(reserve / max(open_claims, Decimal(1)))
        return ReserveOut(reserve=reserve, open_claims=open_claims, ratio=round(ratio, 4))

    def _reserve(self, retry: bool | None) -> Decimal:
        if not self._settings.node_url:
            return self._settings.reserve_amount
        response = http_client(self._chassis, "node").request("GET", "/balance", retry=retry)
        try:
            return Balance.model_validate_json(response.raise_for_status().content).balance
        except (httpx.HTTPStatusError, ValidationError) as error:
            raise UnavailableError("The node did not return its balance.") from error

    def _open_claims(self) -> Decimal:
        def compute() -> str:
            with open_repository(self._chassis) as portfolio:
                return str(portfolio.open_claims())

        return Decimal(self._chassis.get(Cache).get_or_compute(OPEN_CLAIMS, compute, CACHE_SECONDS))


def add_reserves(chassis: Chassis) -> None:
    """Add the client of the node, and the health checks of the node and of the ratio."""
    settings, reserves = chassis.settings_as(Settings), Reserves(chassis)
    chassis.provide(reserves)
    if settings.node_url:
        add_http_client(chassis, "node", settings.node_url)
        node = Upstream("node", f"{settings.node_url}/health", critical=True)
        node.cache_seconds = settings.node_check_cache_seconds
        chassis.health.add(node)
    chassis.health.add(
        Threshold(
            "reserve_ratio",
            lambda: reserves.report(retry=False).ratio,  # a probe must end before the pause of a retry
            critical=True,
            warn_below=settings.reserve_ratio_warning,
            fail_below=settings.reserve_ratio_minimum,
        )
    )
