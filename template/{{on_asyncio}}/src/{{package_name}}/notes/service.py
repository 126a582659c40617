"""The business logic of the domain. A service never commits a transaction and does not handle HTTP."""

from __future__ import annotations

from collections.abc import Sequence

from ..chassis.errors import FieldError
from ..chassis.instrumentation import Counter
from .errors import NoteNotFoundError, NoteTitleTakenError
from .models import Note
from .repository import NoteRepository
from .schemas import NoteIn

NOTES_CREATED = Counter("notes.created", "Notes created.")


class NoteService:
    """The operations on notes, within one unit of work."""

    def __init__(self, notes: NoteRepository) -> None:
        self._notes = notes

    async def create(self, title: str, body: str, tag: str | None) -> Note:
        note = await self._notes.add(Note(title=title, body=body, tag=tag))
        NOTES_CREATED.add()
        return note

    async def create_all(self, new: Sequence[NoteIn]) -> list[Note]:
        """Create all notes, or none.

        Raises:
            NoteTitleTakenError: Some titles are taken. It lists each by its position.
        """
        taken = await self._notes.taken_titles([note.title for note in new])
        errors = []
        for index, note in enumerate(new):
            if note.title in taken:
                errors.append(FieldError(f"items.{index}.title", NoteTitleTakenError.default_detail, "taken"))
            taken.add(note.title)
        if errors:
            raise NoteTitleTakenError(errors=errors)
        notes = [Note(title=note.title, body=note.body, tag=note.tag) for note in new]
        await self._notes.add_all(notes)
        NOTES_CREATED.add(len(notes))
        return notes

    async def get(self, note_id: int) -> Note:
        """Return one note.

        Raises:
            NoteNotFoundError: No note has this id.
        """
        note = await self._notes.get(note_id)
        if note is None:
            raise NoteNotFoundError
        return note

    async def update(self, note_id: int, changes: dict[str, str | None]) -> Note:
        return await self._notes.update(await self.get(note_id), changes)

    async def delete(self, note_id: int) -> None:
        await self._notes.delete(await self.get(note_id))

    async def page(self, after_id: int, limit: int, tag: str | None) -> tuple[list[Note], bool]:
        """Return up to `limit` notes with ids above `after_id`, and whether there are more."""
        notes = await self._notes.after(after_id, limit + 1, tag)
        return notes[:limit], len(notes) > limit
