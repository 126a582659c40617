"""The table of the offers."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import BigInteger, Integer, Numeric, String
from sqlalchemy.orm import Mapped, mapped_column

from ..chassis.database.base import Base
from ..chassis.database.types import UtcDateTime


def utc_now() -> datetime:
    return datetime.now(UTC)


class Offer(Base):
    __tablename__ = "offers"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    marketplace_id: Mapped[str] = mapped_column(String(64), unique=True)
    title: Mapped[str] = mapped_column(String(200))
    url: Mapped[str] = mapped_column(String(2083))
    price: Mapped[Decimal] = mapped_column(Numeric(18, 4))
    currency: Mapped[str] = mapped_column(String(3))
    score: Mapped[int] = mapped_column(Integer, index=True)
    found_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
