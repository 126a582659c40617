"""API keys in the database, for asynchronous handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from ..app import Chassis
from ..database.asyncio import Database
from ..database.backend import DatabaseBackend
from . import stored


class ApiKeys:
    """The feature for `FEATURES`: API keys in the database of this backend."""

    def __init__(self, backend: DatabaseBackend[Any]) -> None:
        self._backend = backend

    def install(self, chassis: Chassis) -> None:
        database = chassis.get(Database)

        async def transact(work: Callable[[Session], Any]) -> Any:
            async with database.session() as session:
                return await session.run_sync(work)

        stored.install(chassis, transact)

    def add_commands(self, commands: Any) -> None:
        stored.add_commands(commands, self._backend)
