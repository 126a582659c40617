"""Connections to DuckDB. Each one works in its own thread, so that no event loop waits. Only one at a time writes."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import duckdb
from sqlalchemy.util import await_only

from .. import request_context

# How often a waiting thread checks whether its statement is still needed.
_INTERVAL_SECONDS = 0.1
_READS = (
    duckdb.StatementType.SELECT,
    duckdb.StatementType.EXPLAIN,
    duckdb.StatementType.SET,
    duckdb.StatementType.TRANSACTION,
)
# The connection that writes holds this lock. DuckDB itself reports a write conflict only at the commit.
_writer = Lock()

T = TypeVar("T")


class WriterBusyError(duckdb.OperationalError):
    """Another transaction has been writing for too long."""


class Connection:
    """Replaces a connection of DuckDB. Results are read completely before they are returned.

    Args:
        connect: Opens the connection of DuckDB.
        timeout_seconds: The time for a statement, and for a writer to wait for another one.
        is_async: Whether callers wait on an event loop instead of in a thread.
    """

    def __init__(self, connect: Callable[[], Any], timeout_seconds: float, is_async: bool) -> None:
        self._native: Any = None
        self._timeout_seconds = timeout_seconds
        self._worker = _Worker(lambda: self._native.interrupt(), is_async)
        self._begin_is_due = self._in_transaction = self._is_writer = False
        self._rows: deque[Any] = deque()
        self.description: Any = None
        self.rowcount = -1  # DuckDB has no such number; the SQLAlchemy dialect reads it from the result
        try:
            self._native = self._worker.run(connect)
        except BaseException:
            self._worker.stop()
            raise

    def execute(self, statement: str, parameters: Any = None) -> None:
        self._worker.run(
            self._execute, self._native.execute, statement, parameters, timeout_seconds=self._timeout_seconds
        )

    def executemany(self, statement: str, parameters: Any = None) -> None:
        self._worker.run(
            self._execute, self._native.executemany, statement, parameters, timeout_seconds=self._timeout_seconds
        )

    def begin(self) -> None:
        """Begin the transaction with the next statement, so that it sees everything that was committed before."""
        self._begin_is_due = True

    def commit(self) -> None:
        self._begin_is_due = False
        if self._in_transaction:
            self._worker.run(self._commit)

    def rollback(self) -> None:
        self._begin_is_due = False
        if self._in_transaction:
            self._worker.run(self._end_with, self._native.rollback)

    def close(self) -> None:
        try:
            self._worker.run(self._end_with, self._native.close)
        finally:
            self._worker.stop()

    def terminate(self) -> None:
        """Close without waiting, when no event loop can wait any more. An open transaction is rolled back."""
        self._worker.submit(self._end_with, self._native.close)
        self._worker.stop()

    def fetchone(self) -> Any:
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int = 1) -> list[Any]:
        return [self._rows.popleft() for _ in range(min(size, len(self._rows)))]

    def fetchall(self) -> list[Any]:
        rows = list(self._rows)
        self._rows.clear()
        return rows

    async def _async_soft_close(self) -> None:
        """Do nothing: SQLAlchemy calls this before it reads rows outside its greenlet, but all rows have been read."""

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of DuckDB's connection; functions run in the same thread."""
        found = getattr(self._native, name)
        return partial(self._worker.run, found) if callable(found) else found

    # -- in the connection's thread ------------------------------------------------------------------------------------

    def _execute(self, run: Callable[..., Any], statement: str, parameters: Any) -> None:
        self._acquire_writer(statement)
        self._rows.clear()
        self.description = None
        try:
            if self._begin_is_due:
                self._native.begin()
                self._begin_is_due, self._in_transaction = False, True
            run(statement, parameters) if parameters is not None else run(statement)
            self.description = self._native.description
            self._rows.extend(self._native.fetchall() if self.description else ())
        finally:
            if not self._in_transaction:
                self._release_writer()

    def _acquire_writer(self, statement: str) -> None:
        if self._is_writer or all(part.type in _READS for part in self._native.extract_statements(statement)):
            return
        deadline = time.monotonic() + self._timeout_seconds
        while not _writer.acquire(timeout=min(_INTERVAL_SECONDS, self._timeout_seconds)):
            if self._worker.is_cancelled or time.monotonic() > deadline:
                raise WriterBusyError(f"another transaction has been writing for {self._timeout_seconds:g} s")
        self._is_writer = True

    def _commit(self) -> None:
        self._native.commit()
        self._release_writer()

    def _end_with(self, end: Callable[[], Any]) -> None:
        try:
            end()
        finally:
            self._release_writer()

    def _release_writer(self) -> None:
        self._in_transaction = False
        if self._is_writer:
            self._is_writer = False
            _writer.release()


class _Worker:
    """The thread of one connection.

    A statement is interrupted at its timeout, when its task is cancelled, and when the deadline of its request has
    passed. `interrupt` is repeated until the statement ends, because one that has not begun cannot be interrupted. Work
    that waits in another way must check `is_cancelled`.
    """

    def __init__(self, interrupt: Callable[[], None], is_async: bool) -> None:
        self.is_cancelled = False
        self._interrupt = interrupt
        self._is_async = is_async
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")

    def run(self, work: Callable[..., T], *arguments: Any, timeout_seconds: float | None = None) -> T:
        """Run work after everything that was submitted earlier, wait for it and return its result."""
        self.is_cancelled = False
        future = self.submit(work, *arguments)
        if not self._is_async:
            return self._wait_in_thread(future, timeout_seconds)
        result: T = await_only(self._wait_on_loop(future, timeout_seconds))
        return result

    def submit(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        """Run work without waiting for it."""
        return self._thread.submit(work, *arguments)

    def stop(self) -> None:
        """Stop the thread once its pending work is done."""
        self._thread.shutdown(wait=False)

    def _wait_in_thread(self, future: Future[T], timeout_seconds: float | None) -> T:
        deadline = math.inf if timeout_seconds is None else time.monotonic() + timeout_seconds
        context = request_context.current()
        while not wait([future], timeout=_INTERVAL_SECONDS).done:
            # Only statements have a timeout; a rollback or a close is never interrupted.
            self.is_cancelled = timeout_seconds is not None and context is not None and context.timed_out
            if self.is_cancelled or time.monotonic() > deadline:
                self._interrupt()
        return future.result(0)

    async def _wait_on_loop(self, future: Future[T], timeout_seconds: float | None) -> T:
        waiting = asyncio.wrap_future(future)
        waiting.add_done_callback(_retrieve_exception)
        try:
            # Unlike `wait_for`, this does not cancel the future together with the caller.
            await asyncio.wait([waiting], timeout=timeout_seconds)
            while not waiting.done():
                self._interrupt()
                await asyncio.wait([waiting], timeout=_INTERVAL_SECONDS)
        except asyncio.CancelledError:
            self.is_cancelled = timeout_seconds is not None
            while self.is_cancelled and not waiting.done():
                self._interrupt()
                await asyncio.wait([waiting], timeout=_INTERVAL_SECONDS)
            raise
        return future.result(0)


def _retrieve_exception(future: asyncio.Future[Any]) -> None:
    """Prevent asyncio from reporting an exception for which no caller waits any more."""
    if not future.cancelled():
        future.exception()
