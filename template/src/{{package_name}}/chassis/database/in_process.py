"""DuckDB's connections in this process: each works in a thread of its own, and one of them at a time writes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any

import duckdb

from .worker import INTERVAL_SECONDS, Worker

_READS = (
    duckdb.StatementType.SELECT,
    duckdb.StatementType.EXPLAIN,
    duckdb.StatementType.SET,
    duckdb.StatementType.TRANSACTION,
)
# Whoever holds it writes. Without it, two that write the same would hear of each other only when they commit.
_writer = Lock()


class WriterBusyError(duckdb.OperationalError):
    """Another transaction has been writing for too long."""


class Connection:
    """Takes the place of one of DuckDB's own connections. A result is read to its end before it is handed out."""

    def __init__(self, connect: Callable[[], Any], limit_seconds: float, is_async: bool) -> None:
        self._native: Any = None
        self._limit_seconds = limit_seconds
        self._worker = Worker(lambda: self._native.interrupt(), is_async)
        self._is_to_begin = self._in_transaction = self._is_writer = False
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
        """Begin with the next statement, and not before that has its turn: it is to see what was written until then."""
        self._is_to_begin = True

    def commit(self) -> None:
        self._is_to_begin = False
        if self._in_transaction:
            self._worker.do(self._commit)

    def rollback(self) -> None:
        self._is_to_begin = False
        if self._in_transaction:
            self._worker.do(self._give_up, self._native.rollback)

    def close(self) -> None:
        try:
            self._worker.do(self._give_up, self._native.close)
        finally:
            self._worker.end()

    def terminate(self) -> None:
        """Close without waiting for it, where nobody can wait any more: what was not committed is undone."""
        self._worker.start(self._give_up, self._native.close)
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
            if self._is_to_begin:
                self._native.begin()
                self._is_to_begin, self._in_transaction = False, True
            run(statement, parameters) if parameters is not None else run(statement)
            self.description = self._native.description
            self._rows.extend(self._native.fetchall() if self.description else ())
        finally:
            if not self._in_transaction:
                self._give_way()

    def _wait_for_turn(self, statement: str) -> None:
        if self._is_writer or all(part.type in _READS for part in self._native.extract_statements(statement)):
            return
        deadline = time.monotonic() + self._limit_seconds
        while not _writer.acquire(timeout=min(INTERVAL_SECONDS, self._limit_seconds)):
            if self._worker.is_unwanted or time.monotonic() > deadline:
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
