"""The synchronous database: engine, sessions, and its place in the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from ..health.registry import QUICK, Check
from ..prod_check.row import Row
from ..service import Service
from . import migrations, production
from .backup import commands as backup
from .connection import pool_numbers, set_up_connections, translator, url_for
from .dialect import Dialect


class Database:
    """One engine with its pool; `session()` is one unit of work."""

    def __init__(self, engine: Engine, dialect: Dialect) -> None:
        self.engine = engine
        self._dialect = dialect
        self._sessions = sessionmaker(engine, expire_on_commit=False)

    def session(self) -> AbstractContextManager[Session]:
        """Open a unit of work: commit when the block ends well, roll back when it raises."""
        return self._sessions.begin()

    def ping(self) -> None:
        """Ask whether the database is there and can be read."""
        with self.engine.connect() as connection:
            self._dialect.ping(connection)

    def pool_numbers(self) -> dict[str, int]:
        """Return how the pool is used."""
        return pool_numbers(self.engine.pool)

    @contextmanager
    def lifespan(self) -> Iterator[None]:
        """Reach the database before the service starts, and give its connections back at the end."""
        try:
            self.ping()
            yield
        finally:
            self.engine.dispose()


def open_database(settings: Any, dialect: Dialect) -> Database:
    """Return the database of `DATABASE_URL`; it connects on first use."""
    url = url_for(settings, dialect.SYNC_DRIVER)
    dialect.prepare(url)
    engine = create_engine(url, **dialect.engine_options(settings))
    set_up_connections(engine, dialect, settings)
    return Database(engine, dialect)


class DatabaseFeature:
    """The feature for `FEATURES`: this database, spoken in this dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def install(self, service: Service) -> None:
        database = open_database(service.settings, self._dialect)
        service.provide(database)
        service.translators.append(translator(self._dialect))
        show = database.pool_numbers
        service.health.add(Check("database", database.ping, critical=True, show=show, timeout_share=QUICK))
        service.lifespans.append(("database", database.lifespan))

    def add_commands(self, commands: Any) -> None:
        migrations.add_commands(commands, self._dialect)
        backup.add_commands(commands, self._dialect)

    def production_rows(self) -> tuple[Row, ...]:
        return production.rows(self._dialect)
