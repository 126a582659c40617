"""The outbox: messages in a table of the database, written in the transaction of the change that they report.

After a rollback nothing is sent, and after a crash nothing is lost. A message is sent at least once: if the process
crashes after a channel accepted it and before that was stored, it is sent again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import orjson
import structlog
from pydantic import Field
from sqlalchemy import Index, Integer, String, Text, delete, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from ...database.base import Base
from ...database.types import UtcDateTime
from ...settings import BaseChassisSettings
from .. import Message

log = structlog.get_logger(__name__)

# How many messages of a channel are sent at once.
BATCH = 10


class Settings(BaseChassisSettings):
    """Outbox of notifications"""

    notifications_give_up_seconds: float = Field(
        86_400.0, gt=0, description="How long a message in the outbox is retried."
    )
    notifications_retention_days: float = Field(
        7.0,
        gt=0,
        description="How long finished messages stay in the table, so that no message with their key is sent again.",
    )


class OutboxMessage(Base):
    """One message on one channel. `due_at` is empty once it is finished, and `error` if it was sent."""

    __tablename__ = "notifications_outbox"
    __table_args__ = (
        Index("ix_notifications_outbox_due", "channel", "due_at"),
        {"info": {"created_by_migrate": True}},
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    channel: Mapped[str] = mapped_column(String(20))
    message: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # The replica that is sending it, until `due_at`.
    claim: Mapped[str | None] = mapped_column(String(32))
    attempts: Mapped[int] = mapped_column(Integer)
    error: Mapped[str | None] = mapped_column(String(200))


class Claimed(NamedTuple):
    """A message that this replica may send."""

    id: str
    claim: str
    message: Message
    created_at: datetime
    attempts: int


def utc_now() -> datetime:
    return datetime.now(UTC)


def whole_seconds(moment: datetime) -> datetime:
    """Round down. Some databases would round up, and then a message would not be due yet."""
    return moment.replace(microsecond=0)


def claim(session: Session, channel: str, now: datetime, lease: timedelta, *, skip_locked: bool) -> list[Claimed]:
    """Claim messages that are due, so that no other replica sends them during the lease.

    Replicas skip rows that another one is claiming. A database without such locks has one writer at a time, and the
    condition of the update is enough. A message that cannot be decoded fails, so that it does not stop the channel.
    """
    if skip_locked:
        # Under REPEATABLE READ, MySQL would also lock the gaps between rows, into which handlers insert.
        session.connection(execution_options={"isolation_level": "READ COMMITTED"})
    is_due = (OutboxMessage.channel == channel, OutboxMessage.due_at <= now)
    due = select(OutboxMessage.id).where(*is_due).order_by(OutboxMessage.due_at).limit(BATCH)
    ids = session.scalars(due.with_for_update(skip_locked=True) if skip_locked else due).all()
    if not ids:
        return []
    token = uuid4().hex
    session.execute(
        update(OutboxMessage)
        .where(OutboxMessage.id.in_(ids), *is_due)
        .values(claim=token, due_at=whole_seconds(now + lease), attempts=OutboxMessage.attempts + 1)
        .execution_options(synchronize_session=False)
    )
    rows = session.scalars(select(OutboxMessage).where(OutboxMessage.claim == token))
    found = [(row, _decoded(row, now)) for row in rows]
    return [Claimed(row.id, token, message, row.created_at, row.attempts) for row, message in found if message]


def _decoded(row: OutboxMessage, now: datetime) -> Message | None:
    """Return the message of a row, or mark the row as failed."""
    try:
        return Message(**orjson.loads(row.message))
    except (ValueError, TypeError, AttributeError):  # stored by a release with other fields or rules
        log.error(
            "notification_failed", channel=row.channel, error="unreadable", attempts=row.attempts, delivery_id=row.id
        )
        row.due_at, row.finished_at, row.error, row.message, row.claim = None, now, "unreadable", "", None
        return None


def finish(session: Session, claimed: Claimed, now: datetime, error: str | None) -> None:
    """Record that a message was sent, or that it failed. Its recipient is deleted."""
    _update(session, claimed, due_at=None, finished_at=now, error=error, message="")


def postpone(session: Session, claimed: Claimed, due_at: datetime, error: str) -> None:
    """Record a failed attempt, and when the next one is due."""
    _update(session, claimed, due_at=whole_seconds(due_at), error=error)


def _update(session: Session, claimed: Claimed, **values: Any) -> None:
    # If the lease is over, another replica may have claimed it.
    mine = (OutboxMessage.id == claimed.id, OutboxMessage.claim == claimed.claim)
    session.execute(
        update(OutboxMessage).where(*mine).values(claim=None, **values).execution_options(synchronize_session=False)
    )


def clean_up(session: Session, before: datetime) -> None:
    """Delete messages that finished before a time."""
    session.execute(
        delete(OutboxMessage).where(OutboxMessage.finished_at < before).execution_options(synchronize_session=False)
    )
