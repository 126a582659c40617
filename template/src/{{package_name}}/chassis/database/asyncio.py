"""The database for asynchronous handlers: engine, sessions, and the feature for `FEATURES`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from ..app import Chassis
from ..health.checks import QUICK, Check
from ..instrumentation import OperationObserver
from . import migrations
from .backend import DatabaseBackend, SettingsT
from .connection import as_settings_error, engine_options, error_translator, measurement_source, pool_details, url_for
from .session import UnitOfWork, hooks_after_commit
from .statements import observe_statements

log = structlog.get_logger(__name__)


class Database:
    """One engine with its connection pool; `session()` is one unit of work."""

    def __init__(self, engine: AsyncEngine, backend: DatabaseBackend[Any]) -> None:
        self.engine = engine
        # Called with each statement once the service has started.
        self.operation_observers: Sequence[OperationObserver] = ()
        self._backend = backend
        self._sessions = async_sessionmaker(engine, expire_on_commit=False, sync_session_class=UnitOfWork)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Open a unit of work: commit when the block ends, roll back when it raises an exception.

        Raises:
            DeadlineExceededError: The deadline of the current request has passed; nothing is committed.
        """
        try:
            async with self._sessions() as session:
                yield session
                await session.commit()
        finally:
            if hooks := hooks_after_commit(session):
                # Shielded from the deadline of the request, because the work is already committed.
                await asyncio.shield(_call(hooks))

    async def ping(self) -> None:
        """Raise an exception if the database is unavailable, or rejects the user."""
        with as_settings_error(self._backend):
            async with self.engine.connect() as connection:
                await connection.run_sync(self._backend.ping)

    def pool_details(self) -> dict[str, int]:
        """Return the usage of the connection pool."""
        return pool_details(self.engine.pool)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Connect before the service starts, and close all connections when it stops."""
        if self.operation_observers:
            observe_statements(self.engine.sync_engine, self.operation_observers)
        try:
            await self.ping()
            yield
        finally:
            await self.engine.dispose()


async def _call(hooks: Iterable[Callable[[], Awaitable[object]]]) -> None:
    for hook in hooks:
        try:
            await hook()
        except Exception:
            log.exception("after_commit_failed")


def open_database(settings: SettingsT, backend: DatabaseBackend[SettingsT]) -> Database:
    """Return the database of `DATABASE_URL`; it connects on first use."""
    engine = create_async_engine(url_for(settings, backend.ASYNC_DRIVER), **engine_options(settings, backend))
    backend.set_up(engine.sync_engine, settings)
    return Database(engine, backend)


class DatabaseFeature(Generic[SettingsT]):
    """The feature for `FEATURES`: a database with this backend."""

    def __init__(self, backend: DatabaseBackend[SettingsT]) -> None:
        self._backend = backend

    def install(self, chassis: Chassis) -> None:
        settings = chassis.settings_as(self._backend.Settings)
        database = open_database(settings, self._backend)
        database.operation_observers = chassis.operation_observers
        chassis.provide(database)
        chassis.error_translators.append(error_translator(self._backend))
        details = database.pool_details
        chassis.health.add(Check("database", database.ping, critical=True, details=details, timeout_fraction=QUICK))
        chassis.lifespans.append(("database", database.lifespan))
        chassis.measurements.append(measurement_source(database.engine.sync_engine, settings, self._backend))

    def add_commands(self, commands: Any) -> None:
        migrations.add_commands(commands, self._backend)
