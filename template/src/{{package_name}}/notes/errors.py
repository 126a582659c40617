"""What can go wrong with a note; the chassis turns each into its status and problem body."""

from ..chassis.errors import ConflictError, NotFoundError


class NoteNotFoundError(NotFoundError):
    default_detail = "There is no note with this id."


class NoteTitleTakenError(ConflictError):
    default_detail = "Another note has this title."
