"""Direct access to the database of a test, without the service. It works with every database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, inspect, text

from .. import servers
from ..package import CHASSIS, module
from .conftest import settings_for_tests

server = servers.chosen(CHASSIS)
assert server is not None
backend = module(f"chassis.database.{server.__name__.rpartition('.')[2]}")
# Features of other databases that this one does not have.
LACKS: frozenset[str] = server.LACKS
connection = module("chassis.database.connection")


@contextmanager
def engine(**settings: Any) -> Iterator[Engine]:
    """Open the database of this test with a synchronous engine."""
    opened = connection.open_engine(settings_for_tests(**settings), backend)
    try:
        yield opened
    finally:
        opened.dispose()


def run(*statements: str, **settings: Any) -> Callable[[], None]:
    """Return a function that runs statements and commits."""

    def behaviour() -> None:
        with engine(**settings) as opened, opened.begin() as connected:
            for statement in statements:
                connected.execute(text(statement))

    return behaviour


def rows(query: str) -> list[Any]:
    """Return the first column of a query's result."""
    with engine() as opened, opened.connect() as connected:
        return list(connected.scalars(text(query)))


def tables() -> set[str]:
    """Return the names of all tables."""
    with engine() as opened:
        return set(inspect(opened).get_table_names())


def methods_of(session: Any) -> dict[str, Callable[[], Any]]:
    """Return methods of a session by the names that tests use for them; those of an asynchronous one are awaited."""
    return {
        "COMMIT": session.commit,
        "ROLLBACK": session.rollback,
        "begin": session.begin,
        "commit begin": lambda: session.get_transaction().commit(),
        "roll back begin": lambda: session.get_transaction().rollback(),
        "begin_nested": session.begin_nested,
        "roll back begin_nested": lambda: session.get_nested_transaction().rollback(),
    }
