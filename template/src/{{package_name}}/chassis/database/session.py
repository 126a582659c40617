"""A session that commits nothing once the request's deadline has passed, so that a 504 means that nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from .. import request_context

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

# Keys of `Session.info`: functions to call after the next commit, and functions whose commit has happened.
_PENDING, _DUE = "after_commit", "committed"


class UnitOfWork(Session):
    """A session whose commit fails once the request's deadline has passed.

    A thread cannot be interrupted. A handler that exceeds its deadline continues, and its work is rolled back here.
    """

    def commit(self) -> None:
        """Commit.

        Raises:
            DeadlineExceededError: The deadline of the current request has passed.
        """
        context = request_context.current()
        self.flush()  # before the commit is announced, because the deadline waits for announced commits
        if context is None or not self.in_transaction():
            super().commit()
        else:
            context.begin_commit()
            try:
                super().commit()
            finally:
                context.end_commit()
        self.info.setdefault(_DUE, []).extend(self.info.pop(_PENDING, ()))

    def rollback(self) -> None:
        """Roll back, and forget the functions to call after the commit."""
        self.info.pop(_PENDING, None)
        super().rollback()


def after_commit(session: Session | AsyncSession, hook: Callable[[], Any]) -> None:
    """Call a function when the unit of work has ended and committed; asynchronous handlers pass a coroutine function.

    Use it to delete a cached value: before the commit, another request would read and cache the old value again. After
    a rollback the function is not called. If the block commits explicitly and raises an exception later, the function
    is still called. Exceptions of the function are logged, because the work is already committed.
    """
    session.info.setdefault(_PENDING, []).append(hook)


def hooks_after_commit(session: Session | AsyncSession) -> list[Callable[[], Any]]:
    """Return the functions to call, in the order in which they were added."""
    hooks: list[Callable[[], Any]] = session.info.get(_DUE, [])
    return hooks
