"""The database of a test, whichever it is, seen past the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, inspect, text

from .. import servers
from ..package import PACKAGE, ROOT, module
from .conftest import settings_for_tests

server = servers.chosen(ROOT / "src" / PACKAGE / "chassis")
assert server is not None
dialect = module(f"chassis.database.{server.__name__.rpartition('.')[2]}")
# What other databases have and this one has not.
LACKS: frozenset[str] = server.LACKS
connection = module("chassis.database.connection")


@contextmanager
def engine(**settings: Any) -> Iterator[Engine]:
    """Open the database of this test, as the service would if it were synchronous."""
    chosen = settings_for_tests(**settings)
    url = connection.url_for(chosen, dialect.SYNC_DRIVER)
    dialect.prepare(url)
    opened = create_engine(url, **dialect.engine_options(chosen))
    connection.set_up_connections(opened, dialect, chosen)
    try:
        yield opened
    finally:
        opened.dispose()


def run(*statements: str, **settings: Any) -> Callable[[], None]:
    """Return a behaviour that runs statements and commits, and raises whatever the database says."""

    def behaviour() -> None:
        with engine(**settings) as opened, opened.begin() as connected:
            for statement in statements:
                connected.execute(text(statement))

    return behaviour


def rows(query: str) -> list[Any]:
    """Return the first column of what a query finds."""
    with engine() as opened, opened.connect() as connected:
        return list(connected.scalars(text(query)))


def tables() -> set[str]:
    with engine() as opened:
        return set(inspect(opened).get_table_names())
