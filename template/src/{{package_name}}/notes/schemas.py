"""What goes in and out over HTTP."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

# The largest key that every database stores.
MAX_ID = 2**63 - 1


def _without_nul(text: str) -> str:
    """Refuse NUL characters: not every database can store them."""
    if "\x00" in text:
        raise ValueError("must not contain NUL characters")
    return text


Title = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_without_nul)
]
Body = Annotated[str, StringConstraints(max_length=10_000), AfterValidator(_without_nul)]
Tag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,50}$")]


class NoteIn(BaseModel):
    """A note to be made."""

    model_config = ConfigDict(extra="forbid")

    title: Title
    body: Body = ""
    tag: Tag | None = None


class NoteChanges(BaseModel):
    """What to change of a note; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    title: Title = ""
    body: Body = ""
    tag: Tag | None = None

    def given(self) -> dict[str, str | None]:
        return self.model_dump(exclude_unset=True)


class NoteOut(BaseModel):
    """A note as it is shown."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str
    body: str
    tag: str | None
    created_at: datetime
    updated_at: datetime


class NotePath(BaseModel):
    """Which note."""

    note_id: int = Field(ge=1, le=MAX_ID)


class NoteQuery(BaseModel):
    """Which notes to list, and from where; `cursor` is what the page before gave."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,32}$")
    tag: Tag | None = None


class NotePage(BaseModel):
    """One page, oldest first; `next_cursor` is null on the last one. Nothing is counted: that would read every row."""

    items: list[NoteOut]
    next_cursor: str | None


def encode_cursor(note_id: int) -> str:
    """Return an opaque cursor, so that clients do not build their own."""
    return base64.urlsafe_b64encode(str(note_id).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> int:
    """Return the id in a cursor.

    Raises:
        ValueError: it is none of ours.
    """
    note_id = int(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii"))
    if not 0 <= note_id <= MAX_ID:
        raise ValueError("out of range")
    return note_id
