"""All SQL of the notes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from ..chassis.app import Chassis
from ..chassis.database.asyncio import Database
from .errors import NoteTitleTakenError
from .models import Note


class NoteRepository:
    """The notes, within one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, note: Note) -> Note:
        self._session.add(note)
        await self._flush()
        return note

    async def add_all(self, notes: Sequence[Note]) -> None:
        self._session.add_all(notes)
        await self._flush()

    async def taken_titles(self, titles: Sequence[str]) -> set[str]:
        """Return those of the titles that notes have."""
        return set(await self._session.scalars(select(Note.title).where(Note.title.in_(titles))))

    async def get(self, note_id: int) -> Note | None:
        return await self._session.get(Note, note_id)

    async def update(self, note: Note, changes: dict[str, str | None]) -> Note:
        for name, value in changes.items():
            setattr(note, name, value)
        await self._flush()
        return note

    async def delete(self, note: Note) -> None:
        await self._session.delete(note)

    async def after(self, note_id: int, limit: int, tag: str | None) -> list[Note]:
        """Return up to `limit` notes after an id, oldest first: one index range scan."""
        query = select(Note).where(Note.id > note_id).order_by(Note.id).limit(limit)
        if tag is not None:
            query = query.where(Note.tag == tag)
        return list(await self._session.scalars(query))

    async def days(self, since: date) -> set[date]:
        """Return the days with notes since a day, and the first one: one index lookup each."""
        found: set[date] = set()
        oldest = select(func.min(Note.created_at))
        moment = await self._session.scalar(oldest)
        while moment is not None:
            found.add(moment.date())
            start = datetime.combine(max(since, moment.date() + timedelta(days=1)), time.min, UTC)
            moment = await self._session.scalar(oldest.where(Note.created_at >= start))
        return found

    async def _flush(self) -> None:
        """Write now instead of at the commit, so that a duplicate title becomes an error of this domain."""
        try:
            await self._session.flush()
        except IntegrityError as error:
            raise NoteTitleTakenError from error


@asynccontextmanager
async def open_repository(chassis: Chassis) -> AsyncIterator[NoteRepository]:
    """Open a unit of work: commit when the block ends, roll back when it raises an exception."""
    async with chassis.get(Database).session() as session:
        yield NoteRepository(session)
