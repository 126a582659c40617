"""What may be done with notes. It decides; it never commits and never sees HTTP."""

from __future__ import annotations

from .errors import NoteNotFoundError
from .models import Note
from .repository import NoteRepository


class NoteService:
    def __init__(self, notes: NoteRepository) -> None:
        self._notes = notes

    async def create(self, title: str, body: str, tag: str | None) -> Note:
        return await self._notes.add(Note(title=title, body=body, tag=tag))

    async def get(self, note_id: int) -> Note:
        note = await self._notes.get(note_id)
        if note is None:
            raise NoteNotFoundError()
        return note

    async def change(self, note_id: int, changes: dict[str, str | None]) -> Note:
        return await self._notes.change(await self.get(note_id), changes)

    async def delete(self, note_id: int) -> None:
        await self._notes.remove(await self.get(note_id))

    async def page(self, after: int, limit: int, tag: str | None) -> tuple[list[Note], bool]:
        """Return at most `limit` notes with ids above `after`, and whether there are more."""
        notes = await self._notes.after(after, limit + 1, tag)
        return notes[:limit], len(notes) > limit
