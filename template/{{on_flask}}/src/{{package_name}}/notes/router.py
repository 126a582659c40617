"""Notes over HTTP: read the request, ask the service, shape the answer."""

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Blueprint, Response

from ..chassis.errors import BadRequestError
from ..chassis.web.flask import current_service, json_response, read_json, read_path, read_query
from .repository import open_repository
from .schemas import NoteChanges, NoteIn, NoteOut, NotePage, NotePath, NoteQuery, decode_cursor, encode_cursor
from .service import NoteService

blueprint = Blueprint("notes", __name__)


@contextmanager
def note_service() -> Iterator[NoteService]:
    """Open a unit of work. It is committed before the answer goes out, so that a 2xx is never a lie."""
    with open_repository(current_service()) as notes:
        yield NoteService(notes)


@blueprint.post("")
def create_note() -> Response:
    note = read_json(NoteIn)
    with note_service() as notes:
        created = NoteOut.model_validate(notes.create(note.title, note.body, note.tag))
    return json_response(created, 201, {"location": f"/api/v1/notes/{created.id}"})


@blueprint.get("")
def list_notes() -> Response:
    query = read_query(NoteQuery)
    try:
        after = decode_cursor(query.cursor) if query.cursor else 0
    except ValueError:
        raise BadRequestError("The cursor is not one that this service gave.") from None
    with note_service() as notes:
        found, more = notes.page(after, query.limit, query.tag)
        items = [NoteOut.model_validate(note) for note in found]
    return json_response(NotePage(items=items, next_cursor=encode_cursor(items[-1].id) if more else None))


@blueprint.get("/<note_id>")
def read_note(note_id: str) -> Response:
    with note_service() as notes:
        return json_response(NoteOut.model_validate(notes.get(read_path(NotePath).note_id)))


@blueprint.patch("/<note_id>")
def change_note(note_id: str) -> Response:
    path, changes = read_path(NotePath), read_json(NoteChanges)
    with note_service() as notes:
        return json_response(NoteOut.model_validate(notes.change(path.note_id, changes.given())))


@blueprint.delete("/<note_id>")
def delete_note(note_id: str) -> Response:
    with note_service() as notes:
        notes.delete(read_path(NotePath).note_id)
    return Response(status=204)
