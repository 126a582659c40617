"""Storage of notes in memory, with the same interface as storage in a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date
from itertools import count, islice

from ..chassis.app import Chassis
from .errors import NoteTitleTakenError
from .models import Note, utc_now


class NoteRepository:
    """The notes of this process."""

    def __init__(self) -> None:
        self._notes: dict[int, Note] = {}
        self._ids = count(1)
        self.lock = asyncio.Lock()

    async def add(self, note: Note) -> Note:
        self._reject_taken_title(note.title, owner=None)
        note.id = next(self._ids)
        self._notes[note.id] = note
        return note

    async def add_all(self, notes: Sequence[Note]) -> None:
        for note in notes:
            await self.add(note)

    async def taken_titles(self, titles: Sequence[str]) -> set[str]:
        """Return those of the titles that notes have."""
        return {note.title for note in self._notes.values()}.intersection(titles)

    async def get(self, note_id: int) -> Note | None:
        return self._notes.get(note_id)

    async def update(self, note: Note, changes: dict[str, str | None]) -> Note:
        self._reject_taken_title(changes.get("title"), owner=note)
        for name, value in changes.items():
            setattr(note, name, value)
        note.updated_at = utc_now()
        return note

    async def delete(self, note: Note) -> None:
        self._notes.pop(note.id, None)

    async def after(self, note_id: int, limit: int, tag: str | None) -> list[Note]:
        """Return up to `limit` notes after an id, oldest first."""
        notes = (note for note in self._notes.values() if note.id > note_id and tag in (None, note.tag))
        return list(islice(notes, limit))

    async def days(self, since: date) -> set[date]:
        """Return the days with notes since a day, and the first one."""
        days = {note.created_at.date() for note in self._notes.values()}
        return {day for day in days if day >= since or day == min(days)}

    def _reject_taken_title(self, title: str | None, owner: Note | None) -> None:
        if any(note.title == title and note is not owner for note in self._notes.values()):
            raise NoteTitleTakenError


@asynccontextmanager
async def open_repository(chassis: Chassis) -> AsyncIterator[NoteRepository]:
    """Provide the notes of this service to one unit of work at a time."""
    notes = chassis.get_or_provide(NoteRepository)
    async with notes.lock:
        yield notes
