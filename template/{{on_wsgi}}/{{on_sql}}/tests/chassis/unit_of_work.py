"""Opens sessions of a synchronous database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text

from ..package import module

Database = module("chassis.database.wsgi").Database


def in_request(service: Any, *statements: str) -> Any:
    """Run statements in one unit of work, as a handler does, and return the first value that the last one finds."""
    with service.get(Database).session() as session:
        results = [session.execute(text(statement)) for statement in statements]
        return results[-1].scalar() if results[-1].returns_rows else None


@contextmanager
def sessions(service: Any) -> Iterator[Callable[..., None]]:
    """Give what runs statements in one session of the service's database, and raises `error` at its end."""
    database = service.get(Database)

    def work(statements: Sequence[str], error: type[Exception] | None = None) -> None:
        with database.session() as session:
            for statement in statements:
                session.execute(text(statement))
            if error:
                raise error

    try:
        yield work
    finally:
        database.engine.dispose()
