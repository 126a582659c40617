"""The models of requests and responses."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

# The largest key that every database can store.
MAX_ID = 2**63 - 1


def _without_nul(text: str) -> str:
    """Reject NUL characters, which not every database can store."""
    if "\x00" in text:
        raise ValueError("must not contain NUL characters")
    return text


Title = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_without_nul)
]
Body = Annotated[str, StringConstraints(max_length=10_000), AfterValidator(_without_nul)]
Tag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,50}$")]


class NoteIn(BaseModel):
    """A note to create."""

    model_config = ConfigDict(extra="forbid")

    title: Title
    body: Body = ""
    tag: Tag | None = None


class NoteChanges(BaseModel):
    """Changes to a note; fields that are not sent stay unchanged."""

    model_config = ConfigDict(extra="forbid")

    title: Title = ""
    body: Body = ""
    tag: Tag | None = None

    def sent(self) -> dict[str, str | None]:
        """Return only the fields that the client sent."""
        return self.model_dump(exclude_unset=True)


class NoteOut(BaseModel):
    """A note in a response."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str
    body: str
    tag: str | None
    created_at: datetime
    updated_at: datetime


class NotePath(BaseModel):
    """The path parameter of one note."""

    note_id: int = Field(ge=1, le=MAX_ID)


class NoteQuery(BaseModel):
    """The query of a list; `cursor` is the `next_cursor` of the previous page."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,32}$")
    tag: Tag | None = None


class NotePage(BaseModel):
    """One page of notes, oldest first; `next_cursor` is null on the last page.

    There is no total, because counting would read every row.
    """

    items: list[NoteOut]
    next_cursor: str | None


def encode_cursor(note_id: int) -> str:
    """Return an opaque cursor, so that clients do not build cursors themselves."""
    return base64.urlsafe_b64encode(str(note_id).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> int:
    """Return the id in a cursor.

    Raises:
        ValueError: The cursor is malformed.
    """
    note_id = int(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii"))
    if not 0 <= note_id <= MAX_ID:
        raise ValueError("out of range")
    return note_id
