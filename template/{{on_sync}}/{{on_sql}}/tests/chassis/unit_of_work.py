"""Use the service's database as synchronous handlers do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text

from ..package import module
from .sql import methods_of

Database = module("chassis.database.sync").Database
after_commit = module("chassis.database.session").after_commit
request_context = module("chassis.request_context")


def in_request(chassis: Any, *statements: str) -> Any:
    """Run statements in one unit of work, and return the first value of the last one's result."""
    with chassis.get(Database).session() as session:
        results = [session.execute(text(statement)) for statement in statements]
        return results[-1].scalar() if results[-1].returns_rows else None


def bind(chassis: Any, statement: str, value: str) -> None:
    """Run a statement with a value in one unit of work."""
    with chassis.get(Database).session() as session:
        session.execute(text(statement), {"value": value})


def overrun(chassis: Any, statement: str) -> None:
    """Run a statement in a unit of work that ends after the request's deadline."""
    with chassis.get(Database).session() as session:
        session.execute(text(statement))
        while not request_context.current().timed_out:
            time.sleep(0.01)


@contextmanager
def sessions(chassis: Any) -> Iterator[Callable[..., None]]:
    """Yield a function that runs steps in one session, and raises `error` before the session ends.

    A step is an SQL statement, a key of `methods_of`, or a function that is passed to `after_commit`.
    """
    database = chassis.get(Database)

    def run(steps: Sequence[str | Callable[[], object]], error: type[Exception] | None = None) -> None:
        with database.session() as session:
            methods = methods_of(session)
            for step in steps:
                if callable(step):
                    after_commit(session, step)
                elif step in methods:
                    methods[step]()
                else:
                    session.execute(text(step))
            if error:
                raise error

    try:
        yield run
    finally:
        database.engine.dispose()
