"""The parts of the engine that asynchronous and synchronous handlers share: URL, connections, errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr
from sqlalchemy import URL, Engine, ExceptionContext, Pool, QueuePool, create_engine, event
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm.exc import StaleDataError

from .. import errors
from ..app import ErrorTranslator
from ..instrumentation import Measurement, MeasurementSource
from ..settings import SettingsError
from . import Settings as DatabaseSettings
from .backend import DatabaseBackend, ReadOnlyError, SettingsT

_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_INTEGER = range(-(2**31), 2**31)


def url_for(settings: DatabaseSettings, driver: str) -> URL:
    """Return `DATABASE_URL` with a driver. The setting itself names no driver."""
    url = settings.database_url
    return settings.parse_url(url.get_secret_value() if isinstance(url, SecretStr) else url).set(drivername=driver)


def open_engine(settings: SettingsT, backend: DatabaseBackend[SettingsT]) -> Engine:
    """Return a synchronous engine for `DATABASE_URL`; it connects on first use."""
    engine = create_engine(url_for(settings, backend.SYNC_DRIVER), **engine_options(settings, backend))
    backend.set_up(engine, settings)
    return engine


def engine_options(settings: SettingsT, backend: DatabaseBackend[SettingsT]) -> dict[str, Any]:
    """Return the arguments of `create_engine`. Values come from clients and must not be logged."""
    return backend.engine_options(settings) | {"hide_parameters": True}


@contextmanager
def as_settings_error(backend: DatabaseBackend[Any]) -> Iterator[None]:
    """Raise a `SettingsError` if the database rejects `DATABASE_URL` or its user, which a retry does not fix."""
    try:
        yield
    except DBAPIError as error:
        problem = backend.url_problem(error)
        if problem is None:
            raise
        raise SettingsError([f"DATABASE_URL: {problem}"]) from None


@event.listens_for(Engine, "handle_error")
def _reject_unstorable_text(failed: ExceptionContext) -> None:
    """Translate the error for a lone surrogate, which each driver reports differently, and for NUL on PostgreSQL."""
    texts = _texts(failed.parameters)
    if _LONE_SURROGATE.search(texts) or ("\x00" in texts and isinstance(failed.sqlalchemy_exception, DataError)):
        raise errors.ValidationError("A text has a character that cannot be stored.") from failed.original_exception


def _texts(parameters: object) -> str:
    """Return all texts among the parameters of a statement."""
    if isinstance(parameters, str):
        return parameters
    values = list(parameters.values()) if isinstance(parameters, Mapping) else parameters
    return "".join(map(_texts, values)) if isinstance(values, list | tuple) else ""


def pool_details(pool: Pool) -> dict[str, int]:
    """Return the usage of the pool for the health check."""
    if not isinstance(pool, QueuePool):
        return {}
    in_use, idle = pool.checkedout(), pool.checkedin()
    return {"pool_size": pool.size(), "in_use": in_use, "idle": idle, "overflow": max(0, in_use + idle - pool.size())}


def measurement_source(engine: Engine, settings: SettingsT, backend: DatabaseBackend[SettingsT]) -> MeasurementSource:
    """Return the source of measurements of the connection pool and the backend."""
    options = backend.engine_options(settings)
    max_connections = options.get("pool_size", 0) + options.get("max_overflow", 0)
    name = {"db.client.connection.pool.name": "database"}

    def measure() -> Iterable[Measurement]:
        yield from backend.measure(engine)
        pool = engine.pool
        if not isinstance(pool, QueuePool):
            return
        for state, count in (("used", pool.checkedout()), ("idle", pool.checkedin())):
            attributes = name | {"db.client.connection.state": state}
            yield Measurement("db.client.connection.count", "Connections to the database.", count, attributes)
        yield Measurement("db.client.connection.max", "Limit of connections to the database.", max_connections, name)

    return measure


def error_translator(backend: DatabaseBackend[Any]) -> ErrorTranslator:
    """Return the translator for exceptions of this database.

    A violated unique constraint is 409, as is a row that another transaction has changed if its model has a
    `version_id_col`. An unavailable database is 503. A number that does not fit into its column is 404
    in a query and 422 in a write.
    """

    def translate(error: BaseException) -> errors.ServiceError | None:
        if isinstance(error, PoolTimeout | ReadOnlyError):
            return errors.UnavailableError()
        if isinstance(error, StaleDataError):
            return errors.ConflictError("The data was changed at the same time. Read it again, then repeat the change.")
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
