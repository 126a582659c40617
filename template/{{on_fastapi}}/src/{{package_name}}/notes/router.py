"""The routes of the notes: parse the request, call the service, build the response."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from ..chassis.app import Chassis
from ..chassis.web.conditional import etag_of, require_match
from ..chassis.web.fastapi import get_chassis
from .repository import open_repository
from .schemas import (
    NoteChanges,
    NoteIn,
    NoteOut,
    NotePage,
    NotePath,
    NoteQuery,
    NotesIn,
    NotesOut,
    decode_cursor,
    encode_cursor,
)
from .service import NoteService

router = APIRouter(prefix="/notes", tags=["notes"])


async def note_service(chassis: Annotated[Chassis, Depends(get_chassis)]) -> AsyncIterator[NoteService]:
    """Open a unit of work for one request."""
    async with open_repository(chassis) as notes:
        yield NoteService(notes)


# `scope="function"` commits before the response is sent, so a client that got 2xx can read its change.
Notes = Annotated[NoteService, Depends(note_service, scope="function")]
IfMatch = Annotated[str | None, Header(description="The ETag of the note as you read it.")]


@router.post("", status_code=201)
async def create_note(note: NoteIn, notes: Notes, request: Request, response: Response) -> NoteOut:
    created = NoteOut.model_validate(await notes.create(note.title, note.body, note.tag))
    response.headers["location"] = request.url_for("read_note", note_id=created.id).path
    response.headers["etag"] = etag_of(created)
    return created


@router.post("/bulk", status_code=201)
async def create_notes(new: NotesIn, notes: Notes) -> NotesOut:
    return NotesOut(items=[NoteOut.model_validate(note) for note in await notes.create_all(new.items)])


@router.get("")
async def list_notes(query: Annotated[NoteQuery, Query()], notes: Notes) -> NotePage:
    found, has_more = await notes.page(decode_cursor(query.cursor), query.limit, query.tag)
    items = [NoteOut.model_validate(note) for note in found]
    return NotePage(items=items, next_cursor=encode_cursor(items[-1].id) if has_more else None)


@router.get("/{note_id:int}")
async def read_note(path: Annotated[NotePath, Path()], notes: Notes, response: Response) -> NoteOut:
    note = NoteOut.model_validate(await notes.get(path.note_id))
    response.headers["etag"] = etag_of(note)
    return note


@router.patch("/{note_id:int}")
async def update_note(
    path: Annotated[NotePath, Path()], changes: NoteChanges, notes: Notes, response: Response, if_match: IfMatch = None
) -> NoteOut:
    require_match(if_match, NoteOut.model_validate(await notes.get(path.note_id)))
    note = NoteOut.model_validate(await notes.update(path.note_id, changes.sent()))
    response.headers["etag"] = etag_of(note)
    return note


@router.delete("/{note_id:int}", status_code=204)
async def delete_note(path: Annotated[NotePath, Path()], notes: Notes, if_match: IfMatch = None) -> None:
    require_match(if_match, NoteOut.model_validate(await notes.get(path.note_id)))
    await notes.delete(path.note_id)
