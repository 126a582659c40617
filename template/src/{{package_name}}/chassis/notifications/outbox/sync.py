"""The outbox for synchronous handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from ...app import Chassis
from ...database.session import after_commit
from ...database.sync import Database
from .dispatcher import Dispatcher, install


class Outbox:
    """The feature for `FEATURES`: notifications in the database. `shared` is whether several replicas share it."""

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared

    def install(self, chassis: Chassis) -> None:
        def in_unit_of_work(work: Callable[[Session], Any]) -> Any:
            with chassis.get(Database).session() as session:
                return work(session)

        async def transact(work: Callable[[Session], Any]) -> Any:
            return await asyncio.to_thread(in_unit_of_work, work)

        install(chassis, Dispatcher(chassis, transact, after_commit, shared=self._shared))
