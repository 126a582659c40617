"""The routes of the notes: parse the request, call the service, build the response."""

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Blueprint, Response, request, url_for

from ..chassis.web.conditional import etag_of, require_match
from ..chassis.web.flask import current_chassis, json_response, read_json, read_path, read_query
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

blueprint = Blueprint("notes", __name__)


@contextmanager
def note_service() -> Iterator[NoteService]:
    """Open a unit of work. It commits before the response is sent, so a client that got 2xx can read its change."""
    with open_repository(current_chassis()) as notes:
        yield NoteService(notes)


@blueprint.post("")
def create_note() -> Response:
    note = read_json(NoteIn)
    with note_service() as notes:
        created = NoteOut.model_validate(notes.create(note.title, note.body, note.tag))
    location = url_for(".read_note", note_id=created.id)
    return json_response(created, 201, {"location": location, "etag": etag_of(created)})


@blueprint.post("/bulk")
def create_notes() -> Response:
    new = read_json(NotesIn)
    with note_service() as notes:
        created = NotesOut(items=[NoteOut.model_validate(note) for note in notes.create_all(new.items)])
    return json_response(created, 201)


@blueprint.get("")
def list_notes() -> Response:
    query = read_query(NoteQuery)
    with note_service() as notes:
        found, has_more = notes.page(decode_cursor(query.cursor), query.limit, query.tag)
        items = [NoteOut.model_validate(note) for note in found]
    return json_response(NotePage(items=items, next_cursor=encode_cursor(items[-1].id) if has_more else None))


@blueprint.get("/<int:note_id>")
def read_note(note_id: int) -> Response:
    path = read_path(NotePath)
    with note_service() as notes:
        note = NoteOut.model_validate(notes.get(path.note_id))
    return json_response(note, headers={"etag": etag_of(note)})


@blueprint.patch("/<int:note_id>")
def update_note(note_id: int) -> Response:
    path, changes = read_path(NotePath), read_json(NoteChanges)
    with note_service() as notes:
        require_match(request.headers.get("if-match"), NoteOut.model_validate(notes.get(path.note_id)))
        note = NoteOut.model_validate(notes.update(path.note_id, changes.sent()))
    return json_response(note, headers={"etag": etag_of(note)})


@blueprint.delete("/<int:note_id>")
def delete_note(note_id: int) -> Response:
    path = read_path(NotePath)
    with note_service() as notes:
        require_match(request.headers.get("if-match"), NoteOut.model_validate(notes.get(path.note_id)))
        notes.delete(path.note_id)
    return Response(status=204)
