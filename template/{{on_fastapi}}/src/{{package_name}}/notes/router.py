"""Notes over HTTP: read the request, ask the service, shape the answer."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from ..chassis.errors import BadRequestError
from ..chassis.service import Service
from ..chassis.web.fastapi import service_for
from .repository import open_repository
from .schemas import NoteChanges, NoteIn, NoteOut, NotePage, NotePath, NoteQuery, decode_cursor, encode_cursor
from .service import NoteService

router = APIRouter(prefix="/notes", tags=["notes"])


async def note_service(service: Annotated[Service, Depends(service_for)]) -> AsyncIterator[NoteService]:
    async with open_repository(service) as notes:
        yield NoteService(notes)


# `scope="function"`: the unit of work is committed before the answer goes out, so that a 2xx is never a lie.
Notes = Annotated[NoteService, Depends(note_service, scope="function")]
Which = Annotated[NotePath, Path()]


@router.post("", status_code=201)
async def create_note(note: NoteIn, notes: Notes, response: Response) -> NoteOut:
    created = await notes.create(note.title, note.body, note.tag)
    response.headers["location"] = f"/api/v1/notes/{created.id}"
    return NoteOut.model_validate(created)


@router.get("")
async def list_notes(query: Annotated[NoteQuery, Query()], notes: Notes) -> NotePage:
    try:
        after = decode_cursor(query.cursor) if query.cursor else 0
    except ValueError:
        raise BadRequestError("The cursor is not one that this service gave.") from None
    found, more = await notes.page(after, query.limit, query.tag)
    items = [NoteOut.model_validate(note) for note in found]
    return NotePage(items=items, next_cursor=encode_cursor(items[-1].id) if more else None)


@router.get("/{note_id}")
async def read_note(note: Which, notes: Notes) -> NoteOut:
    return NoteOut.model_validate(await notes.get(note.note_id))


@router.patch("/{note_id}")
async def change_note(note: Which, changes: NoteChanges, notes: Notes) -> NoteOut:
    return NoteOut.model_validate(await notes.change(note.note_id, changes.given()))


@router.delete("/{note_id}", status_code=204)
async def delete_note(note: Which, notes: Notes) -> None:
    await notes.delete(note.note_id)
