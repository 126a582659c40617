"""Opens sessions of an asynchronous database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text

from ..package import module

Database = module("chassis.database.asgi").Database


async def in_request(service: Any, *statements: str) -> Any:
    """Run statements in one unit of work, as a handler does, and return the first value that the last one finds."""
    async with service.get(Database).session() as session:
        results = [await session.execute(text(statement)) for statement in statements]
        return results[-1].scalar() if results[-1].returns_rows else None


@contextmanager
def sessions(service: Any) -> Iterator[Callable[..., None]]:
    """Give what runs statements in one session of the service's database, and raises `error` at its end."""
    database = service.get(Database)

    async def work(statements: Sequence[str], error: type[Exception] | None) -> None:
        async with database.session() as session:
            for statement in statements:
                await session.execute(text(statement))
            if error:
                raise error

    with asyncio.Runner() as runner:
        try:
            yield lambda statements, error=None: runner.run(work(statements, error))
        finally:
            runner.run(database.engine.dispose())
