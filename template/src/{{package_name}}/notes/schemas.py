"""The models of requests and responses."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# The largest key that every database can store.
MAX_ID = 2**63 - 1
# Each note of a bulk request costs memory and time before the first one is stored.
MAX_BULK = 100

# Not every database can store NUL characters. Patterns are part of the OpenAPI document, and validators are not.
Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=200, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$"),
]
Body = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")]
Tag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,50}$")]


class NoteIn(BaseModel):
    """The fields of a new note."""

    model_config = ConfigDict(extra="forbid")

    title: Title
    body: Body = ""
    tag: Tag | None = None


class NotesIn(BaseModel):
    """New notes, of which all are created or none."""

    model_config = ConfigDict(extra="forbid")

    items: list[NoteIn] = Field(min_length=1, max_length=MAX_BULK)


class NoteChanges(BaseModel):
    """Changes to one note; fields that are not sent stay unchanged."""

    model_config = ConfigDict(extra="forbid")

    title: Title = ""
    body: Body = ""
    tag: Tag | None = None

    def sent(self) -> dict[str, str | None]:
        """Return only the fields that the client sent."""
        return self.model_dump(exclude_unset=True)


class NoteOut(BaseModel):
    """One note in a response."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str
    body: str
    tag: str | None
    created_at: datetime
    updated_at: datetime


class NotesOut(BaseModel):
    """Several notes in a response, in the order of the request."""

    items: list[NoteOut]


class NotePath(BaseModel):
    """The path parameter of one note."""

    note_id: int = Field(ge=1, le=MAX_ID)


class NoteQuery(BaseModel):
    """The query of a list; `cursor` is the `next_cursor` of the previous page."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, pattern=r"^[0-7]?[0-9a-f]{1,15}$")
    tag: Tag | None = None


class NotePage(BaseModel):
    """One page of notes, oldest first; `next_cursor` is null on the last page.

    There is no total, because counting would read every row.
    """

    items: list[NoteOut]
    next_cursor: str | None


def encode_cursor(note_id: int) -> str:
    """Return an opaque cursor, so that clients do not build cursors themselves."""
    return f"{note_id:x}"


def decode_cursor(cursor: str | None) -> int:
    """Return the id in a cursor, or 0 for the first page."""
    return int(cursor or "0", 16)
