"""A body with the types of `validators`, and the same body with plain types."""

from decimal import Decimal
from typing import Annotated

from my_service.chassis.validators import CleanText, Email, Money, Phone, PublicUrl
from pydantic import BaseModel


class Validated(BaseModel):
    email: Email
    phone: Phone
    price: Money
    page: Annotated[str, PublicUrl()]
    title: Annotated[str, CleanText(max_length=200)]


class Price(BaseModel):
    amount: Decimal
    currency: str


class Plain(BaseModel):
    email: str
    phone: str
    price: Price
    page: str
    title: str
