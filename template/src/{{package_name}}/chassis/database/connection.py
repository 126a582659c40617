"""The parts of the engine that asynchronous and synchronous handlers share: URL, connections, errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr
from sqlalchemy import URL, Engine, Pool, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from .. import errors
from ..app import ErrorTranslator
from . import Settings as DatabaseSettings
from .backend import DatabaseBackend, ReadOnlyError, SettingsT

_INTEGER = range(-(2**31), 2**31)


def url_for(settings: DatabaseSettings, driver: str) -> URL:
    """Return `DATABASE_URL` with a driver. The setting itself names no driver."""
    url = settings.database_url
    return make_url(url.get_secret_value() if isinstance(url, SecretStr) else url).set(drivername=driver)


def open_engine(settings: SettingsT, backend: DatabaseBackend[SettingsT]) -> Engine:
    """Return a synchronous engine for `DATABASE_URL`; it connects on first use."""
    url = url_for(settings, backend.SYNC_DRIVER)
    backend.prepare(url)
    engine = create_engine(url, **backend.engine_options(settings))
    set_up_connections(engine, backend, settings)
    return engine


def set_up_connections(engine: Engine, backend: DatabaseBackend[SettingsT], settings: SettingsT) -> None:
    """Let the backend open and configure each new connection."""
    engine.hide_parameters = True  # values come from clients and must not be logged
    is_async = engine.dialect.is_async
    connect = backend.connector(engine, settings)

    @event.listens_for(engine, "do_connect")
    def _(_dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
        backend.before_connect(arguments)
        if connect is None:
            return None
        if not is_async:
            return connect(*arguments, **options)
        options["async_creator_fn"] = connect
        return None

    @event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        backend.on_connect(connection)


def pool_details(pool: Pool) -> dict[str, int]:
    """Return the usage of the pool for the health check."""
    if not isinstance(pool, QueuePool):
        return {}
    in_use, idle = pool.checkedout(), pool.checkedin()
    return {"pool_size": pool.size(), "in_use": in_use, "idle": idle, "overflow": max(0, in_use + idle - pool.size())}


def error_translator(backend: DatabaseBackend[Any]) -> ErrorTranslator:
    """Return the translator for exceptions of this database.

    A violated unique constraint is 409, an unavailable database 503. A number that does not fit into its column is 404
    in a query and 422 in a write.
    """

    def translate(error: BaseException) -> errors.ServiceError | None:
        if isinstance(error, PoolTimeout | ReadOnlyError):
            return errors.UnavailableError()
        if not isinstance(error, DBAPIError):
            return None
        if backend.is_conflict(error):
            return errors.ConflictError()
        if is_unavailable(error, backend):
            return errors.UnavailableError()
        return _out_of_range(error)

    return translate


def is_unavailable(error: DBAPIError, backend: DatabaseBackend[Any]) -> bool:
    """Return whether an exception means that the database is temporarily unavailable."""
    return error.connection_invalidated or backend.is_transient(error)


def _out_of_range(error: DBAPIError) -> errors.ServiceError | None:
    """Translate the error for a number of more than 32 bits, which a client may send in a path."""
    parameters = error.params or ()
    values = parameters.values() if isinstance(parameters, Mapping) else parameters
    if not isinstance(error, DataError) or all(value in _INTEGER for value in values if isinstance(value, int)):
        return None
    if (error.statement or "").startswith("SELECT"):
        return errors.NotFoundError()
    return errors.ValidationError("A number is too large to be stored.")
