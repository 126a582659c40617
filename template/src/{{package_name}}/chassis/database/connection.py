"""What the asynchronous and the synchronous database share: the URL with its driver, connections, what errors mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr
from sqlalchemy import URL, Engine, Pool, QueuePool, event, make_url
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from .. import errors
from ..service import Translator
from .circuit import guarded
from .dialect import Connector, Dialect

_INTEGER = range(-(2**31), 2**31)


def url_for(settings: Any, driver: str) -> URL:
    """Return `DATABASE_URL` with the driver that fits the framework; nobody has to write it into the URL."""
    url = settings.database_url
    return make_url(url.get_secret_value() if isinstance(url, SecretStr) else url).set(drivername=driver)


def set_up_connections(engine: Engine, dialect: Dialect, settings: Any) -> None:
    """Have every new connection opened and prepared by the dialect, and a server that is silent left alone."""
    engine.hide_parameters = True  # what clients send belongs in no log
    is_async = engine.dialect.is_async
    connector = dialect.connector(settings, is_async)
    connect = guarded(engine, connector) if isinstance(connector, Connector) else connector

    @event.listens_for(engine, "do_connect")
    def _(_dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
        dialect.before_connect(arguments)
        if connect is None:
            return None
        if not is_async:
            return connect(*arguments, **options)
        options["async_creator_fn"] = connect
        return None

    @event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        dialect.on_connect(connection)


def pool_numbers(pool: Pool) -> dict[str, int]:
    """Return how the pool is used, for the details of the health check."""
    if not isinstance(pool, QueuePool):
        return {}
    in_use, idle = pool.checkedout(), pool.checkedin()
    return {"pool_size": pool.size(), "in_use": in_use, "idle": idle, "overflow": max(0, in_use + idle - pool.size())}


def translator(dialect: Dialect) -> Translator:
    """Return what says 409 of a duplicate, 503 of a database that is away, 404 or 422 of a number that is too large."""

    def translate(error: BaseException) -> errors.ServiceError | None:
        if isinstance(error, PoolTimeout):
            return errors.UnavailableError()
        if not isinstance(error, DBAPIError):
            return None
        if dialect.is_conflict(error):
            return errors.ConflictError()
        if error.connection_invalidated or dialect.is_transient(error):
            return errors.UnavailableError()
        return _beyond_the_column(error)

    return translate


def _beyond_the_column(error: DBAPIError) -> errors.ServiceError | None:
    """Say of a number that no column of 32 bits holds, as a client may write it into a path, what it means."""
    parameters = error.params or ()
    values = parameters.values() if isinstance(parameters, Mapping) else parameters
    if not isinstance(error, DataError) or all(value in _INTEGER for value in values if isinstance(value, int)):
        return None
    if (error.statement or "").startswith("SELECT"):
        return errors.NotFoundError()
    return errors.ValidationError("A number is too large to be stored.")
