"""The models of requests and responses, and of the records in data files."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

PolicyNumber = Annotated[str, StringConstraints(pattern=r"^P-[0-9]{4,10}$")]
ClaimNumber = Annotated[str, StringConstraints(pattern=r"^C-[0-9]{4,10}$")]
Holder = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Amount = Annotated[Decimal, Field(gt=0, max_digits=14, decimal_places=2)]


class PolicyRecord(BaseModel):
    """A policy, in a data file and in a response."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    number: PolicyNumber
    holder: Holder
    sum_insured: Amount
    starts_on: date
    ends_on: date

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.ends_on < self.starts_on:
            raise ValueError("ends_on is before starts_on")
        return self


class ClaimIn(BaseModel):
    """A claim to file."""

    model_config = ConfigDict(extra="forbid")

    number: ClaimNumber
    policy_number: PolicyNumber
    amount: Amount
    occurred_on: date


class ClaimRecord(ClaimIn):
    """A claim, in a data file and in a response."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    status: Literal["open", "paid", "rejected"]


class ClaimQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    policy: PolicyNumber


class ClaimList(BaseModel):
    items: list[ClaimRecord]


class PolicyPath(BaseModel):
    number: PolicyNumber


class ReserveOut(BaseModel):
    """The reserve, the sum of the open claims, and their ratio."""

    reserve: Decimal
    open_claims: Decimal
    ratio: float
