"""Use the service's database as asynchronous handlers do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import Any

from sqlalchemy import text

from ..package import module
from .sql import methods_of

Database = module("chassis.database.asyncio").Database
after_commit = module("chassis.database.session").after_commit
request_context = module("chassis.request_context")


async def in_request(chassis: Any, *statements: str) -> Any:
    """Run statements in one unit of work, and return the first value of the last one's result."""
    async with chassis.get(Database).session() as session:
        results = [await session.execute(text(statement)) for statement in statements]
        return results[-1].scalar() if results[-1].returns_rows else None


async def bind(chassis: Any, statement: str, value: str) -> None:
    """Run a statement with a value in one unit of work."""
    async with chassis.get(Database).session() as session:
        await session.execute(text(statement), {"value": value})


async def overrun(chassis: Any, statement: str) -> None:
    """Run a statement in a unit of work that ignores its cancellation and ends after the request's deadline."""
    async with chassis.get(Database).session() as session:
        await session.execute(text(statement))
        while not request_context.current().timed_out:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)


@contextmanager
def sessions(chassis: Any) -> Iterator[Callable[..., None]]:
    """Yield a function that runs steps in one session, and raises `error` before the session ends.

    A step is an SQL statement, a key of `methods_of`, or a function that is passed to `after_commit`.
    """
    database = chassis.get(Database)

    async def run(steps: Sequence[str | Callable[[], object]], error: type[Exception] | None) -> None:
        async with database.session() as session:
            methods = methods_of(session)
            for step in steps:
                if callable(step):
                    after_commit(session, partial(asyncio.to_thread, step))
                elif step in methods:
                    await methods[step]()
                else:
                    await session.execute(text(step))
            if error:
                raise error

    with asyncio.Runner() as runner:
        try:
            yield lambda steps, error=None: runner.run(run(steps, error), context=copy_context())
        finally:
            runner.run(database.engine.dispose())
