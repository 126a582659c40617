"""What the asynchronous and the synchronous database share: the URL with its driver, and what errors mean."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Engine, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from .. import errors
from ..service import Translator
from .dialect import Dialect


def url_for(settings: Any, driver: str) -> URL:
    """Return `DATABASE_URL` with the driver that fits the framework; nobody has to write it into the URL."""
    return make_url(settings.database_url).set(drivername=driver)


def set_up_connections(engine: Engine, dialect: Dialect) -> None:
    """Have every new connection prepared by the dialect."""

    @event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        dialect.on_connect(connection)


def translator(dialect: Dialect) -> Translator:
    """Return what says 409 of a duplicate and 503 of a database that is away."""

    def translate(error: BaseException) -> errors.ServiceError | None:
        if isinstance(error, PoolTimeout):
            return errors.UnavailableError()
        if not isinstance(error, DBAPIError):
            return None
        if dialect.is_conflict(error):
            return errors.ConflictError()
        if error.connection_invalidated or dialect.is_transient(error):
            return errors.UnavailableError()
        return None

    return translate
