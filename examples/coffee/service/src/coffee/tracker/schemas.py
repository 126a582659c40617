"""The models of requests and responses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints


def utc_now() -> datetime:
    return datetime.now(UTC)


class CupIn(BaseModel):
    """A cup of coffee; without a time it was drunk just now."""

    model_config = ConfigDict(extra="forbid")

    kind: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z -]{0,49}$")]
    caffeine_mg: int = Field(ge=0, le=1000)
    drunk_at: AwareDatetime = Field(default_factory=utc_now)


class CupOut(CupIn):
    """A cup in a response."""

    model_config = ConfigDict(from_attributes=True)

    id: int


class HeartRateIn(BaseModel):
    """A heart rate; without a time it was measured just now."""

    model_config = ConfigDict(extra="forbid")

    beats_per_minute: int = Field(ge=20, le=250)
    measured_at: AwareDatetime = Field(default_factory=utc_now)


class HeartRateOut(HeartRateIn):
    """A heart rate in a response."""

    model_config = ConfigDict(from_attributes=True)

    id: int


class Today(BaseModel):
    """The cups and heart rates of the current day in UTC, oldest first."""

    cups: list[CupOut]
    heart_rates: list[HeartRateOut]
    caffeine_mg: int


class Correlation(BaseModel):
    """Pearson's correlation of the caffeine and the mean heart rate of a day.

    It is null if fewer than two days have both, or if one of them is the same every day.
    """

    days: int
    coefficient: float | None
