"""API keys in the table `api_keys` of the database. The command `migrate` creates it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from contextvars import Context
from datetime import datetime, timedelta
from typing import Any

import structlog
from pydantic import Field
from sqlalchemy import String, delete, inspect, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from ..app import Chassis
from ..authentication import add_authenticator
from ..database import maintenance
from ..database.backend import DatabaseBackend, MaintenanceError, SettingsT
from ..database.base import Base
from ..database.connection import open_engine
from ..database.types import UtcDateTime
from ..request_context import RequestContext
from ..settings import BaseChassisSettings, load, view
from . import ApiKey, KeyAuthenticator, commands, presented_key, utc_now

log = structlog.get_logger(__name__)

# The last use of a key is written at most this often.
_USE_INTERVAL = timedelta(minutes=1)


class Settings(BaseChassisSettings):
    """API keys in the database"""

    api_keys_cache_seconds: float = Field(
        1.0, ge=0, le=60, description="How long keys are cached; meanwhile revoked keys are accepted, new keys get 401."
    )


class StoredKey(Base):
    """One row per valid or expired key; revoking deletes it."""

    __tablename__ = "api_keys"
    __table_args__ = {"info": {"created_by_migrate": True}}  # noqa: RUF012

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(String(2000))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def _key_of(row: StoredKey) -> ApiKey:
    return ApiKey(row.digest, row.name, frozenset(row.scopes.split()), row.expires_at, row.created_at, row.last_used_at)


def read_keys(session: Session) -> list[ApiKey]:
    """Return all keys. A service has few clients, so each process can hold all of their keys."""
    return [_key_of(row) for row in session.scalars(select(StoredKey))]


class DatabaseKeys:
    """The keys of the database, for commands."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[ApiKey]:
        return read_keys(self._session)

    def add(self, key: ApiKey) -> str:
        row = StoredKey(digest=key.digest, name=key.name, scopes=" ".join(sorted(key.scopes)))
        row.created_at, row.expires_at = key.created_at or utc_now(), key.expires_at
        self._session.add(row)
        self._session.commit()
        return ""

    def remove(self, key: ApiKey) -> str:
        self._session.execute(delete(StoredKey).where(StoredKey.digest == key.digest))
        self._session.commit()
        return ""


# Calls a function with a session in one unit of work.
Transact = Callable[[Callable[[Session], Any]], Awaitable[Any]]


class StoredKeyAuthenticator(KeyAuthenticator):
    """Reads all keys again when a request has a key and the last read is older than `API_KEYS_CACHE_SECONDS`.

    So a client that invents many keys causes no further queries.
    """

    def __init__(self, chassis: Chassis, transact: Transact, clock: Callable[[], datetime] = utc_now) -> None:
        self._used: dict[str, datetime] = {}
        super().__init__(clock=clock)
        self._chassis = chassis
        self._transact = transact
        self._cache = timedelta(seconds=chassis.settings_as(Settings).api_keys_cache_seconds)
        self._read_at = self._stale_at = utc_now()
        self._problem: Exception | None = None
        self._reading: asyncio.Task[None] | None = None
        self._writing: set[asyncio.Task[None]] = set()

    def __call__(self, context: RequestContext, headers: Mapping[str, str]) -> Awaitable[None] | None:
        presented = presented_key(headers)
        if presented is None:
            return None
        now = self._clock()
        # If the clock was set back, the last read may be in the future.
        if not self._read_at <= now < self._stale_at:
            return self._read_and_check(context, presented)
        self.check(context, presented, now)
        return None

    async def _read_and_check(self, context: RequestContext, presented: str) -> None:
        if self._reading is None or self._reading.done():
            self._reading = self._start(self._read())
        # One read serves all requests that wait for it, even if one of them reaches its deadline.
        await asyncio.shield(self._reading)
        if self._problem is None:
            self.check(context, presented, self._clock())
        else:
            context.authentication_error = self._chassis.to_service_error(self._problem)
            context.authentication_error.__cause__ = self._problem

    async def _read(self) -> None:
        began = self._clock()
        try:
            self.replace(await self._transact(read_keys))
            self._read_at, self._stale_at, self._problem = began, began + self._cache, None
        except Exception as error:
            self._problem = error

    def record_use(self, key: ApiKey, now: datetime) -> datetime:
        last = self._used.get(key.id, key.last_used_at)
        if last is None or not timedelta(0) <= now - last < _USE_INTERVAL:
            last = self._used[key.id] = now
            task = self._start(self._write_use(key, now))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
        return min(key.expires_at, last + _USE_INTERVAL)

    def replace(self, keys: Iterable[ApiKey]) -> None:
        super().replace(keys)
        self._used = {key.id: self._used[key.id] for key in self._keys.values() if key.id in self._used}

    async def _write_use(self, key: ApiKey, now: datetime) -> None:
        def write(session: Session) -> None:
            session.execute(update(StoredKey).where(StoredKey.digest == key.digest).values(last_used_at=now))

        try:
            await self._transact(write)
        except Exception as error:  # the request itself must not fail
            log.warning("api_key_use_not_stored", api_key_id=key.id, cause=type(error).__name__)

    async def aclose(self) -> None:
        """Wait until the last uses are written, before the database is closed."""
        await asyncio.gather(*self._writing)

    @staticmethod
    def _start(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task outside of the request, so that its commit does not count as a commit of the request."""
        return asyncio.get_running_loop().create_task(work, context=Context())


def install(chassis: Chassis, transact: Transact) -> None:
    authenticator = StoredKeyAuthenticator(chassis, transact)
    add_authenticator(chassis, authenticator)
    chassis.lifespans.append(("api_keys", lambda: aclosing(authenticator)))


def add_commands(subparsers: Any, backend: DatabaseBackend[SettingsT]) -> None:
    @contextmanager
    def open_session(settings: SettingsT) -> Iterator[Session]:
        maintenance.require_database(settings, backend)
        engine = open_engine(settings, backend)
        try:
            if not inspect(engine).has_table(StoredKey.__tablename__):
                raise MaintenanceError(f"the database has no table api_keys; run `{maintenance.MIGRATE}`")
            with Session(engine) as session:
                yield session
        finally:
            engine.dispose()

    def run(program: Any, action: Callable[[commands.KeyStore], int]) -> int:
        settings = view(load(program.settings), backend.Settings)
        codes: list[int] = []

        def work() -> None:
            with open_session(settings) as session:
                codes.append(action(DatabaseKeys(session)))

        return maintenance.run(work, "Nothing was changed", backend) or codes[0]

    commands.add_commands(subparsers, run)
