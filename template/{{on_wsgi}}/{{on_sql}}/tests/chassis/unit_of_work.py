"""Opens the session of a synchronous database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from ..package import module

Database = module("chassis.database.wsgi").Database


def in_session(service: Any, statements: Sequence[str], error: type[Exception] | None = None) -> None:
    """Run statements in one session of the service's database, and raise `error` at its end."""
    database = service.get(Database)
    try:
        with database.session() as session:
            for statement in statements:
                session.execute(text(statement))
            if error:
                raise error
    finally:
        database.engine.dispose()
