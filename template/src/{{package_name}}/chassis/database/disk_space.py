"""Reports a server whose disk is full as unavailable until it has space again.

A ping does not notice a full disk, and a write for each ping would cost too much. So the first write that fails is
remembered, and from then on each ping tries to write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError

from .backend import DiskFullError

# The engines whose errors are watched, and whether the disk of their server is full.
_is_full: WeakKeyDictionary[Engine, bool] = WeakKeyDictionary()


def require_disk_space(
    connection: Connection,
    is_disk_full: Callable[[Any], bool],
    *probe: str,
    is_forbidden: Callable[[Any], bool] = lambda _error: False,
) -> None:
    """Check that no write has failed for lack of space, or that the server has space again.

    Args:
        connection: A connection of the engine to watch.
        is_disk_full: Returns whether an exception of the driver means that the disk is full.
        probe: Statements that need disk space and leave nothing behind.
        is_forbidden: Returns whether the user lacks a privilege for the probe. Then only a failed
            write shows that the disk is full.

    Raises:
        DiskFullError: The disk of the server is full.
    """
    engine = connection.engine
    if engine not in _is_full:
        _watch(engine, is_disk_full)
    if not _is_full[engine]:
        return
    try:
        for statement in probe:
            connection.execute(text(statement))
    except DBAPIError as error:
        _is_full[engine] = not is_forbidden(error.orig)
        raise DiskFullError from None
    _is_full[engine] = False


def _watch(engine: Engine, is_disk_full: Callable[[Any], bool]) -> None:
    _is_full[engine] = False

    @event.listens_for(engine, "handle_error")
    def _(context: Any) -> None:
        if is_disk_full(context.original_exception):
            _is_full[context.engine] = True
