"""The outbox for asynchronous handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from ...app import Chassis
from ...database.asyncio import Database
from ...database.session import after_commit
from .dispatcher import Dispatcher, install


class Outbox:
    """The feature for `FEATURES`: notifications in the database. `shared` is whether several replicas share it."""

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared

    def install(self, chassis: Chassis) -> None:
        async def transact(work: Callable[[Session], Any]) -> Any:
            async with chassis.get(Database).session() as session:
                return await session.run_sync(work)

        install(chassis, Dispatcher(chassis, transact, _after_commit, shared=self._shared))


def _after_commit(session: Session, function: Callable[[], None]) -> None:
    async def hook() -> None:
        function()

    after_commit(session, hook)
