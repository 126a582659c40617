"""The models of requests, of responses, and of the responses of the upstreams."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

Usd = Annotated[Decimal, Field(gt=0, max_digits=18, decimal_places=2)]
Btc = Annotated[Decimal, Field(gt=0, max_digits=18, decimal_places=8)]


def utc_now() -> datetime:
    return datetime.now(UTC)


class PriceIn(BaseModel):
    """A price to add, for example on a day that lacks one."""

    model_config = ConfigDict(extra="forbid")

    usd: Usd
    observed_at: AwareDatetime = Field(default_factory=utc_now)


class PriceOut(BaseModel):
    """A price in a response."""

    model_config = ConfigDict(from_attributes=True)

    usd: Decimal
    observed_at: datetime


class PriceQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=1000)


class PriceList(BaseModel):
    """The newest prices, newest first."""

    items: list[PriceOut]


class Spot(BaseModel):
    """A response of the upstream of prices."""

    usd: Usd


class Transfer(BaseModel):
    """One transfer of the upstream of transfers."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{1,64}$")]
    btc: Btc


SPOT: TypeAdapter[Spot] = TypeAdapter(Spot)
TRANSFERS: TypeAdapter[list[Transfer]] = TypeAdapter(Annotated[list[Transfer], Field(max_length=1000)])
