"""Opens the session of an asynchronous database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from ..package import module

Database = module("chassis.database.asgi").Database


def in_session(service: Any, statements: Sequence[str], error: type[Exception] | None = None) -> None:
    """Run statements in one session of the service's database, and raise `error` at its end."""

    async def work() -> None:
        database = service.get(Database)
        try:
            async with database.session() as session:
                for statement in statements:
                    await session.execute(text(statement))
                if error:
                    raise error
        finally:
            await database.engine.dispose()

    asyncio.run(work())
