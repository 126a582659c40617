"""What may be done with notes. It decides; it never commits and never sees HTTP."""

from __future__ import annotations

from .errors import NoteNotFoundError
from .models import Note
from .repository import NoteRepository


class NoteService:
    def __init__(self, notes: NoteRepository) -> None:
        self._notes = notes

    def create(self, title: str, body: str, tag: str | None) -> Note:
        return self._notes.add(Note(title=title, body=body, tag=tag))

    def get(self, note_id: int) -> Note:
        note = self._notes.get(note_id)
        if note is None:
            raise NoteNotFoundError()
        return note

    def change(self, note_id: int, changes: dict[str, str | None]) -> Note:
        return self._notes.change(self.get(note_id), changes)

    def delete(self, note_id: int) -> None:
        self._notes.remove(self.get(note_id))

    def page(self, after: int, limit: int, tag: str | None) -> tuple[list[Note], bool]:
        """Return at most `limit` notes with ids above `after`, and whether there are more."""
        notes = self._notes.after(after, limit + 1, tag)
        return notes[:limit], len(notes) > limit
