"""The tables of the cups and the heart rates."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from ..chassis.database.base import Base
from ..chassis.database.types import UtcDateTime


class Cup(Base):
    __tablename__ = "cups"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    kind: Mapped[str] = mapped_column(String(50))
    caffeine_mg: Mapped[int] = mapped_column(Integer)
    drunk_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class HeartRate(Base):
    __tablename__ = "heart_rates"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    beats_per_minute: Mapped[int] = mapped_column(Integer)
    measured_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
