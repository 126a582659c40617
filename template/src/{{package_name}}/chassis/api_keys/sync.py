"""API keys in the database, for synchronous handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from ..app import Chassis
from ..database.backend import DatabaseBackend
from ..database.sync import Database
from . import stored


class ApiKeys:
    """The feature for `FEATURES`: API keys in the database of this backend."""

    def __init__(self, backend: DatabaseBackend[Any]) -> None:
        self._backend = backend

    def install(self, chassis: Chassis) -> None:
        database = chassis.get(Database)

        def work_in_session(work: Callable[[Session], Any]) -> Any:
            with database.session() as session:
                return work(session)

        async def transact(work: Callable[[Session], Any]) -> Any:
            # Authentication runs on the event loop, which must not wait for the database.
            return await asyncio.to_thread(work_in_session, work)

        stored.install(chassis, transact)

    def add_commands(self, commands: Any) -> None:
        stored.add_commands(commands, self._backend)
