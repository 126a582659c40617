"""The tables of the policies and their claims."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from sqlalchemy import Date, ForeignKey, Numeric, String
from sqlalchemy.orm import Mapped, mapped_column

from ..chassis.database.base import Base


class Policy(Base):
    __tablename__ = "policies"

    number: Mapped[str] = mapped_column(String(12), primary_key=True)
    holder: Mapped[str] = mapped_column(String(200))
    sum_insured: Mapped[Decimal] = mapped_column(Numeric(14, 2))
    starts_on: Mapped[date] = mapped_column(Date)
    ends_on: Mapped[date] = mapped_column(Date)


class Claim(Base):
    __tablename__ = "claims"

    number: Mapped[str] = mapped_column(String(12), primary_key=True)
    policy_number: Mapped[str] = mapped_column(ForeignKey("policies.number"), index=True)
    amount: Mapped[Decimal] = mapped_column(Numeric(14, 2))
    occurred_on: Mapped[date] = mapped_column(Date)
    status: Mapped[str] = mapped_column(String(10), index=True)
