"""The database for synchronous handlers: engine, sessions, and the feature for `FEATURES`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic

import structlog
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session, sessionmaker

from ..app import Chassis
from ..health.checks import QUICK, Check
from ..instrumentation import OperationObserver
from . import migrations
from .backend import DatabaseBackend, SettingsT
from .connection import as_settings_error, error_translator, measurement_source, open_engine, pool_details
from .session import UnitOfWork, hooks_after_commit
from .statements import observe_statements

log = structlog.get_logger(__name__)


class Database:
    """One engine with its connection pool; `session()` is one unit of work."""

    def __init__(self, engine: Engine, backend: DatabaseBackend[Any]) -> None:
        self.engine = engine
        # Called with each statement once the service has started.
        self.operation_observers: Sequence[OperationObserver] = ()
        self._backend = backend
        self._sessions = sessionmaker(engine, expire_on_commit=False, class_=UnitOfWork)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a unit of work: commit when the block ends, roll back when it raises an exception.

        Raises:
            DeadlineExceededError: The deadline of the current request has passed; nothing is committed.
        """
        try:
            with self._sessions() as session:
                yield session
                session.commit()
        finally:
            for hook in hooks_after_commit(session):
                try:
                    hook()
                except Exception:
                    log.exception("after_commit_failed")

    def ping(self) -> None:
        """Raise an exception if the database is unavailable, or rejects the user."""
        with as_settings_error(self._backend), self.engine.connect() as connection:
            self._backend.ping(connection)

    def pool_details(self) -> dict[str, int]:
        """Return the usage of the connection pool."""
        return pool_details(self.engine.pool)

    @contextmanager
    def lifespan(self) -> Iterator[None]:
        """Connect before the service starts, and close all connections when it stops."""
        if self.operation_observers:
            observe_statements(self.engine, self.operation_observers)
        try:
            self.ping()
            yield
        finally:
            # A thread past its deadline returns its connection later, to the pool that it was taken from.
            event.listen(self.engine.pool, "checkin", lambda _connection, entry: entry.close())
            self.engine.dispose()


class DatabaseFeature(Generic[SettingsT]):
    """The feature for `FEATURES`: a database with this backend."""

    def __init__(self, backend: DatabaseBackend[SettingsT]) -> None:
        self._backend = backend

    def install(self, chassis: Chassis) -> None:
        settings = chassis.settings_as(self._backend.Settings)
        engine = open_engine(settings, self._backend)
        database = Database(engine, self._backend)
        database.operation_observers = chassis.operation_observers
        chassis.provide(database)
        chassis.error_translators.append(error_translator(self._backend))
        details = database.pool_details
        chassis.health.add(Check("database", database.ping, critical=True, details=details, timeout_fraction=QUICK))
        chassis.lifespans.append(("database", database.lifespan))
        chassis.measurements.append(measurement_source(engine, settings, self._backend))

    def add_commands(self, commands: Any) -> None:
        migrations.add_commands(commands, self._backend)
