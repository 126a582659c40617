"""A session that commits nothing once the request's deadline has passed, so that a 504 means that nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from .. import request_context

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

# Keys of `Session.info`: functions to call after the next commit, each with the transaction in which it was added,
# functions whose commit has happened, and the request whose deadline waits for a commit.
_PENDING, _DUE, _WAITING = "after_commit", "committed", "committing"


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


# SQLAlchemy also calls the following functions at the end of a block `with session.begin()`, which calls no method of
# the session.


@event.listens_for(UnitOfWork, "before_commit")
def _begin_commit(session: Session) -> None:
    context = request_context.current()
    if context is None or session.in_nested_transaction():
        return
    session.flush()  # before the commit is announced, because the deadline waits for announced commits
    context.begin_commit()
    session.info[_WAITING] = context


@event.listens_for(UnitOfWork, "after_commit")
def _release_hooks(session: Session) -> None:
    if not session.in_nested_transaction():
        session.info.setdefault(_DUE, []).extend(hook for hook, _ in session.info.pop(_PENDING, ()))


@event.listens_for(UnitOfWork, "after_soft_rollback")
def _forget_hooks(session: Session, rolled_back: SessionTransaction) -> None:
    """Forget the functions that were added within a transaction that was rolled back, which may be a savepoint."""
    kept = [hook for hook in session.info.pop(_PENDING, ()) if rolled_back.nested and not _within(hook[1], rolled_back)]
    session.info[_PENDING] = kept


@event.listens_for(UnitOfWork, "after_transaction_end")
def _end_transaction(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        _end_commit(session)


def _end_commit(session: Session) -> None:
    if context := session.info.pop(_WAITING, None):
        context.end_commit()


def _within(transaction: SessionTransaction | None, outer: SessionTransaction) -> bool:
    while transaction not in (None, outer):
        transaction = transaction.parent
    return transaction is outer


def after_commit(session: Session | AsyncSession, hook: Callable[[], Any]) -> None:
    """Call a function when the unit of work has ended and committed; asynchronous handlers pass a coroutine function.

    Use it to delete a cached value: before the commit, another request would read and cache the old value again. After
    a rollback the function is not called. If the block commits explicitly and raises an exception later, the function
    is still called. Exceptions of the function are logged, because the work is already committed.
    """
    unit: Session = session if isinstance(session, Session) else session.sync_session
    transaction = unit.get_nested_transaction() or unit.get_transaction()
    session.info.setdefault(_PENDING, []).append((hook, transaction))


def hooks_after_commit(session: Session | AsyncSession) -> list[Callable[[], Any]]:
    """Return the functions to call, in the order in which they were added."""
    hooks: list[Callable[[], Any]] = session.info.get(_DUE, [])
    return hooks
