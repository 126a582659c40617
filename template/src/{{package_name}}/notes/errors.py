"""The errors of the notes. The chassis translates each into a problem response."""

from ..chassis.errors import ConflictError, NotFoundError


class NoteNotFoundError(NotFoundError):
    default_detail = "There is no note with this id."


class NoteTitleTakenError(ConflictError):
    default_detail = "Another note has this title."
