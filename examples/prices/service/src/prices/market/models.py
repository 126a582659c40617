"""The tables of the prices and the large transfers."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, Numeric, String
from sqlalchemy.orm import Mapped, mapped_column

from ..chassis.database.base import Base
from ..chassis.database.types import UtcDateTime


class Price(Base):
    __tablename__ = "prices"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    usd: Mapped[Decimal] = mapped_column(Numeric(18, 2))
    observed_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class Whale(Base):
    """A large transfer that was reported."""

    __tablename__ = "whales"

    transfer_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    btc: Mapped[Decimal] = mapped_column(Numeric(18, 8))
    reported_at: Mapped[datetime] = mapped_column(UtcDateTime)
