"""DuckDB's connections in this process: each works in a thread of its own, and one of them at a time writes."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import duckdb
from sqlalchemy.util import await_only

_READS = (
    duckdb.StatementType.SELECT,
    duckdb.StatementType.EXPLAIN,
    duckdb.StatementType.SET,
    duckdb.StatementType.TRANSACTION,
)
# How often a thread that waits can be told that its request is over; a lock that is waited for hears nothing.
_INTERVAL_SECONDS = 0.1
# Whoever holds it writes. Without it, two that write the same would hear of each other only when they commit.
_writer = Lock()

T = TypeVar("T")


class WriterBusyError(duckdb.OperationalError):
    """Another transaction has been writing for too long."""


class Worker:
    """Does the work of one connection in a thread, so that no event loop waits for it.

    `interrupt` makes work that has a limit end soon, by an error: when its time is up, and when whoever waits for it is
    cancelled.
    """

    def __init__(self, interrupt: Callable[[], None], is_async: bool) -> None:
        self._interrupt = interrupt
        self._is_async = is_async
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")

    def do(self, work: Callable[..., T], *arguments: Any, limit_seconds: float | None = None) -> T:
        """Have something done, after all that was asked for before, and return what it returns."""
        future = self._thread.submit(work, *arguments)
        if not self._is_async:
            return self._waited(future, limit_seconds)
        result: T = await_only(self._awaited(future, limit_seconds))
        return result

    def end(self) -> None:
        """Let the thread end when its work is done."""
        self._thread.shutdown(wait=False)

    def _waited(self, future: Future[T], limit_seconds: float | None) -> T:
        deadline = math.inf if limit_seconds is None else time.monotonic() + limit_seconds
        try:
            while True:
                with suppress(TimeoutError):
                    return future.result(_INTERVAL_SECONDS)
                if time.monotonic() > deadline:
                    self._interrupt()
        except BaseException:
            if limit_seconds is not None and not future.done():  # the request's own deadline
                self._interrupt()
            raise

    async def _awaited(self, future: Future[T], limit_seconds: float | None) -> T:
        waiting = asyncio.wrap_future(future)
        waiting.add_done_callback(_looked_at)
        try:
            # Unlike `wait_for` this leaves the work alone when its caller is cancelled.
            done, _ = await asyncio.wait([waiting], timeout=limit_seconds)
            if not done:
                self._interrupt()
            return await waiting
        except asyncio.CancelledError:
            if limit_seconds is not None:
                self._interrupt()
            raise


def _looked_at(future: asyncio.Future[Any]) -> None:
    """Keep asyncio from reporting an error for which nobody waits any more."""
    if not future.cancelled():
        future.exception()


class Connection:
    """Takes the place of one of DuckDB's own connections. A result is read to its end before it is handed out."""

    def __init__(self, connect: Callable[[], Any], limit_seconds: float, is_async: bool) -> None:
        self._native: Any = None
        self._limit_seconds = limit_seconds
        self._worker = Worker(lambda: self._native.interrupt(), is_async)
        self._in_transaction = self._is_writer = False
        self._rows: deque[Any] = deque()
        self.description: Any = None
        self.rowcount = -1  # DuckDB has no such number; the dialect reads it from the result
        try:
            self._native = self._worker.do(connect)
        except BaseException:
            self._worker.end()
            raise

    def execute(self, statement: str, parameters: Any = None) -> None:
        self._worker.do(self._run, self._native.execute, statement, parameters, limit_seconds=self._limit_seconds)

    def executemany(self, statement: str, parameters: Any = None) -> None:
        self._worker.do(self._run, self._native.executemany, statement, parameters, limit_seconds=self._limit_seconds)

    def begin(self) -> None:
        self._worker.do(self._native.begin)
        self._in_transaction = True

    def commit(self) -> None:
        self._worker.do(self._commit)

    def rollback(self) -> None:
        if self._in_transaction:
            self._worker.do(self._give_up, self._native.rollback)

    def close(self) -> None:
        try:
            self._worker.do(self._give_up, self._native.close)
        finally:
            self._worker.end()

    def fetchone(self) -> Any:
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int = 1) -> list[Any]:
        return [self._rows.popleft() for _ in range(min(size, len(self._rows)))]

    def fetchall(self) -> list[Any]:
        rows = list(self._rows)
        self._rows.clear()
        return rows

    async def _async_soft_close(self) -> None:
        """SQLAlchemy asks for it before rows are read outside of its own tasks; here they are read already."""

    def __getattr__(self, name: str) -> Any:
        """Hand out what else DuckDB offers, to be done in the same thread."""
        found = getattr(self._native, name)
        return partial(self._worker.do, found) if callable(found) else found

    def _run(self, run: Callable[..., Any], statement: str, parameters: Any) -> None:
        """Run a statement, in this connection's thread."""
        self._wait_for_turn(statement)
        self._rows.clear()
        self.description = None
        try:
            run(statement, parameters) if parameters is not None else run(statement)
            self.description = self._native.description
            self._rows.extend(self._native.fetchall() if self.description else ())
        finally:
            if not self._in_transaction:
                self._give_way()

    def _wait_for_turn(self, statement: str) -> None:
        if self._is_writer or all(part.type in _READS for part in self._native.extract_statements(statement)):
            return
        if not _writer.acquire(timeout=self._limit_seconds):
            raise WriterBusyError(f"another transaction has been writing for {self._limit_seconds:g} s")
        self._is_writer = True

    def _commit(self) -> None:
        self._native.commit()
        self._give_way()

    def _give_up(self, how: Callable[[], Any]) -> None:
        try:
            how()
        finally:
            self._give_way()

    def _give_way(self) -> None:
        """Leave the transaction, and let another connection write."""
        self._in_transaction = False
        if self._is_writer:
            self._is_writer = False
            _writer.release()
