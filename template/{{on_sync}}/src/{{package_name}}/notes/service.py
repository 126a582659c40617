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

    def create(self, title: str, body: str, tag: str | None) -> Note:
        note = self._notes.add(Note(title=title, body=body, tag=tag))
        NOTES_CREATED.add()
        return note

    def create_all(self, new: Sequence[NoteIn]) -> list[Note]:
        """Create all notes, or none.

        Raises:
            NoteTitleTakenError: Some titles are taken. It lists each by its position.
        """
        taken = self._notes.taken_titles([note.title for note in new])
        errors = []
        for index, note in enumerate(new):
            if note.title in taken:
                errors.append(FieldError(f"items.{index}.title", NoteTitleTakenError.default_detail, "taken"))
            taken.add(note.title)
        if errors:
            raise NoteTitleTakenError(errors=errors)
        notes = [Note(title=note.title, body=note.body, tag=note.tag) for note in new]
        self._notes.add_all(notes)
        NOTES_CREATED.add(len(notes))
        return notes

    def get(self, note_id: int) -> Note:
        """Return one note.

        Raises:
            NoteNotFoundError: No note has this id.
        """
        note = self._notes.get(note_id)
        if note is None:
            raise NoteNotFoundError
        return note

    def update(self, note_id: int, changes: dict[str, str | None]) -> Note:
        return self._notes.update(self.get(note_id), changes)

    def delete(self, note_id: int) -> None:
        self._notes.delete(self.get(note_id))

    def page(self, after_id: int, limit: int, tag: str | None) -> tuple[list[Note], bool]:
        """Return up to `limit` notes with ids above `after_id`, and whether there are more."""
        notes = self._notes.after(after_id, limit + 1, tag)
        return notes[:limit], len(notes) > limit
