"""The statements that observers of operations get, with every database and on both frameworks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ..package import module
from .conftest import Logs, Start, settings_for_tests
from .process import until
from .sql import run, server
from .unit_of_work import Database, bind, in_request

EVENTS = ("do_execute", "do_executemany")


@pytest.fixture
def things(folder: Any) -> None:
    """Create a table with a unique name."""
    run("CREATE TABLE things (name VARCHAR(20) NOT NULL UNIQUE)")()


class Observed:
    """A service whose observer records the statements about `things`."""

    def __init__(self, start: Start, *observers: Callable[[Any], None], **settings: Any) -> None:
        self.operations: list[Any] = []
        self._chassis: list[Any] = []
        self._observers = observers or (self._record,)
        self._behaviours: dict[str, Callable[..., Any]] = {"work": lambda: None}
        self._client = start(self._behaviours, install=self._install, **settings)

    @property
    def chassis(self) -> Any:
        return self._chassis[0]

    def _install(self, chassis: Any) -> None:
        self._chassis.append(chassis)
        chassis.operation_observers.extend(self._observers)

    def _record(self, operation: Any) -> None:
        if "things" in operation.attributes["db.query.text"]:
            self.operations.append(operation)

    def call(self, behaviour: Callable[[], Any]) -> Any:
        """Run a behaviour in a request, and return the response."""
        self._behaviours["work"] = behaviour
        return self._client.get("/api/here/work")


def test_statement_is_reported_with_its_name_and_without_its_values(start: Start, things: None) -> None:
    """Attributes are those of the stable semantic conventions. `COMMIT` is not a statement."""
    service = Observed(start)
    insert = "INSERT INTO things (name) VALUES (:value)"
    assert service.call(lambda: bind(service.chassis, insert, "hunter2")).status_code == 200
    assert service.call(lambda: in_request(service.chassis, "\n  select name FROM things")).json() == "hunter2"
    written, read = service.operations
    assert [written.name, read.name] == ["INSERT", "SELECT"]
    assert (written.kind, written.error) == ("db", None)
    assert written.duration_seconds > 0
    attributes = written.attributes
    assert attributes["db.system.name"] in ("duckdb", "mariadb", "mysql", "postgresql", "sqlite")
    assert attributes["db.operation.name"] == "INSERT"
    assert attributes["db.namespace"]
    assert attributes["db.query.text"].startswith("INSERT INTO things (name) VALUES (")
    assert "hunter2" not in str(attributes)


def test_statement_that_fails_is_reported_once_with_its_error(start: Start, things: None) -> None:
    """The response to the error is the same as without an observer."""
    service = Observed(start)
    insert = "INSERT INTO things (name) VALUES ('one')"
    assert service.call(lambda: in_request(service.chassis, insert)).status_code == 200
    assert service.call(lambda: in_request(service.chassis, insert)).status_code == 409
    first, second = service.operations
    assert first.error is None
    assert type(second.error).__name__ in ("ConstraintException", "IntegrityError", "UniqueViolation")


def test_statement_with_a_text_that_cannot_be_stored_is_reported(start: Start, things: None) -> None:
    """The chassis replaces the error of such a statement."""
    service = Observed(start)
    insert = "INSERT INTO things (name) VALUES (:value)"
    assert service.call(lambda: bind(service.chassis, insert, "\ud800")).status_code == 422
    (operation,) = service.operations
    assert operation.error is not None


@pytest.mark.skipif(not hasattr(server, "SLEEP"), reason="the database has no statement that waits")
def test_statement_of_a_request_past_its_deadline_is_reported_once_with_an_error(start: Start) -> None:
    """An asynchronous one is cancelled with the request. In a thread, the statement ends at its own timeout."""
    service = Observed(start, request_timeout_seconds=0.5, database_statement_timeout_seconds=1)
    statement = f"{server.SLEEP.format(seconds=30)} /* things */"
    requests = 0

    def request() -> bool:
        nonlocal requests
        requests += 1
        assert service.call(lambda: in_request(service.chassis, statement)).status_code in (503, 504)
        return bool(service.operations)

    until(request)  # on a busy machine, the deadline may pass before a statement begins
    assert len(service.operations) <= requests
    operation = service.operations[0]
    assert operation.error is not None
    assert operation.duration_seconds < 30


def test_observer_that_fails_does_not_fail_the_statement(start: Start, things: None, logs: Logs) -> None:
    def fail(operation: Any) -> None:
        raise RuntimeError

    service = Observed(start, fail)
    assert service.call(lambda: in_request(service.chassis, "SELECT name FROM things")).status_code == 200
    assert logs("operation_observer_failed")


def test_statement_is_reported_in_the_request(start: Start, things: None) -> None:
    """An observer can read the context of the request that the statement belongs to."""
    ids: list[Any] = []
    current = module("chassis.request_context").current
    service = Observed(start, lambda operation: ids.append(current() and current().request_id))
    response = service.call(lambda: in_request(service.chassis, "SELECT name FROM things"))
    assert response.headers["x-request-id"] in ids


def test_engine_without_observers_has_no_listeners() -> None:
    """A service without observers must not spend time on them."""
    without, with_one = listeners([]), listeners([lambda operation: None])
    assert with_one - without == len(EVENTS)


def listeners(observers: list[Callable[[Any], None]]) -> int:
    """Return how many functions SQLAlchemy calls for statements of a running service."""
    chassis = module("chassis.app").Chassis(settings_for_tests())
    chassis.operation_observers.extend(observers)
    (feature,) = (found for found in module("chassis.features").FEATURES if type(found).__name__ == "DatabaseFeature")
    feature.install(chassis)
    engine = chassis.get(Database).engine
    dispatch = engine.dialect.dispatch

    async def count() -> int:
        async with chassis.open_lifespans():
            return sum(len(list(getattr(dispatch, name))) for name in EVENTS)

    return asyncio.run(count())
