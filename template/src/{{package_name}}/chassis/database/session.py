"""A session that commits nothing once the request's deadline has passed, so that a 504 means that nothing changed."""

from __future__ import annotations

from sqlalchemy.orm import Session

from .. import request_context


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
        if context is None:
            super().commit()
            return
        self.flush()  # before the commit is announced, because the deadline waits for announced commits
        context.begin_commit()
        try:
            super().commit()
        finally:
            context.end_commit()
