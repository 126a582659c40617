"""A session that commits nothing once the request's deadline has passed, so that a 504 means that nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from .. import request_context

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

# Keys of `Session.info`: hooks with the transaction in which each was added, hooks whose transaction has committed,
# and the request of a commit in progress.
_PENDING, _DUE, _COMMITTING = "after_commit", "committed", "committing"


class UnitOfWork(Session):
    """A session whose commit fails once the request's deadline has passed.

    A thread cannot be interrupted. A handler that exceeds its deadline continues, and its work is rolled back here.
    """

    def commit(self) -> None:
        """Commit. A session without a transaction has nothing to commit.

        Raises:
            DeadlineExceededError: The deadline of the current request has passed.
        """
        self.flush()
        if not self.in_transaction():
            _release_hooks(self)
            return
        try:
            super().commit()
        finally:
            _end_commit(self)

    def rollback(self) -> None:
        """Roll back, and forget the functions to call after the commit."""
        self.info.pop(_PENDING, None)
        super().rollback()


# The following functions are listeners, because a block `with session.begin()` commits without `UnitOfWork.commit`.


@event.listens_for(UnitOfWork, "before_commit")
def _begin_commit(session: Session) -> None:
    context = request_context.current()
    if context is not None and not session.in_nested_transaction():
        session.flush()  # before `begin_commit`, or the deadline would also wait for these statements
        context.begin_commit()
        session.info[_COMMITTING] = context


@event.listens_for(UnitOfWork, "after_commit")
def _release_hooks(session: Session) -> None:
    if not session.in_nested_transaction():
        session.info.setdefault(_DUE, []).extend(hook for hook, _ in session.info.pop(_PENDING, ()))


@event.listens_for(UnitOfWork, "after_soft_rollback")
def _discard_hooks(session: Session, rolled_back: SessionTransaction) -> None:
    """Discard the hooks that were added in a transaction or savepoint that was rolled back."""
    pending = session.info.pop(_PENDING, ()) if rolled_back.nested else ()
    session.info[_PENDING] = [hook for hook in pending if not _is_within(hook[1], rolled_back)]


@event.listens_for(UnitOfWork, "after_transaction_end")
def _end_transaction(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        _end_commit(session)


def _end_commit(session: Session) -> None:
    if context := session.info.pop(_COMMITTING, None):
        context.end_commit()


def _is_within(transaction: SessionTransaction | None, outer: SessionTransaction) -> bool:
    while transaction not in (None, outer):
        transaction = transaction.parent
    return transaction is outer


def after_commit(session: Session | AsyncSession, hook: Callable[[], Any]) -> None:
    """Call a function when the unit of work has ended and committed; asynchronous handlers pass a coroutine function.

    Use it to delete a cached value: before the commit, another request would read and cache the old value again. After
    a rollback the function is not called. If the block commits explicitly and raises an exception later, the function
    is still called. Exceptions of the function are logged, because the work is already committed.
    """
    sync_session: Session = session if isinstance(session, Session) else session.sync_session
    transaction = sync_session.get_nested_transaction() or sync_session.get_transaction()
    session.info.setdefault(_PENDING, []).append((hook, transaction))


def hooks_after_commit(session: Session | AsyncSession) -> list[Callable[[], Any]]:
    """Return the functions to call, in the order in which they were added."""
    hooks: list[Callable[[], Any]] = session.info.get(_DUE, [])
    return hooks
