"""The table of the notes."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from ..chassis.database.base import Base
from ..chassis.database.types import UtcDateTime


def utc_now() -> datetime:
    return datetime.now(UTC)


class Note(Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    title: Mapped[str] = mapped_column(String(200), unique=True)
    body: Mapped[str] = mapped_column(Text)
    tag: Mapped[str | None] = mapped_column(String(50), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now, index=True)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now, onupdate=utc_now)

    # If two requests change the same note at once, the second one gets 409.
    # It does not undo the first one.
    __mapper_args__ = {"version_id_col": updated_at, "version_id_generator": False}  # noqa: RUF012
