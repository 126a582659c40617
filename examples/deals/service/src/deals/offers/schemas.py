"""The models of requests, of responses, and of the records of the marketplace."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ..chassis.validators import CleanText, Money, PublicUrl


class MarketplaceOffer(BaseModel):
    """One record of the marketplace, which others write."""

    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    title: Annotated[str, CleanText(max_length=200)]
    url: Annotated[str, PublicUrl(schemes=("https",))]
    price: Money
    usual_price: Money
    rating: float = Field(ge=0, le=5, allow_inf_nan=False)

    @model_validator(mode="after")
    def _prices_can_be_compared(self) -> Self:
        if self.price.currency != self.usual_price.currency:
            raise ValueError("the prices have different currencies")
        if self.price.amount < 0 or self.usual_price.amount <= 0:
            raise ValueError("a price is not positive")
        return self


class MarketplacePage(BaseModel):
    """The response of the marketplace. Each record is checked separately, so that one fault rejects one record."""

    offers: list[Any] = Field(max_length=1000)


class ImportResult(BaseModel):
    """The numbers of records of an import."""

    new: int
    known: int
    invalid: int


class OfferOut(BaseModel):
    """An offer in a response."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str
    url: str
    price: Decimal
    currency: str
    score: int
    found_at: datetime


class OfferQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    min_score: int = Field(0, ge=0, le=100)
    limit: int = Field(20, ge=1, le=100)


class OfferList(BaseModel):
    """The best offers, best first."""

    items: list[OfferOut]
