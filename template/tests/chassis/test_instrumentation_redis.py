"""The commands of Redis that observers of operations get, asynchronous and synchronous."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from ..package import module
from .conftest import Logs, settings_for_tests
from .redis import RedisServer, redis_server

RedisConnection = module("chassis.redis").RedisConnection


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def connect(server: RedisServer, *observers: Any, **settings: Any) -> Any:
    settings = {"redis_timeout_seconds": 60, "redis_url": server.url, **settings}
    return RedisConnection(settings_for_tests(**settings), "demo", observers)


def call(connection: Any, name: str, *command: object) -> list[Any]:
    """Return the results of a command, called asynchronously and synchronously."""

    async def run() -> list[Any]:
        async with connection.lifespan():
            found = await connection.call(name, lambda: connection.client.execute_command(*command), None)
            sync = connection.sync_client
            return [found, connection.call_sync(name, lambda: sync.execute_command(*command), None)]

    return asyncio.run(run())


def named(operations: list[Any], name: str) -> list[Any]:
    """Return the operations of this name, without those of the health check."""
    return [operation for operation in operations if operation.name == name]


def test_command_is_reported_with_its_name_and_without_key_and_value(server: RedisServer) -> None:
    """Attributes are those of the stable semantic conventions."""
    operations: list[Any] = []
    assert call(connect(server, operations.append), "SET", "SET", "hunter2", "hunter2") == [True, True]
    found = named(operations, "SET")
    assert [operation.attributes for operation in found] == [
        {"db.system.name": "redis", "db.operation.name": "SET"}
    ] * 2
    assert {(operation.kind, operation.error) for operation in found} == {("db", None)}
    assert "hunter2" not in str(operations)


def test_command_that_fails_is_reported_with_its_error(server: RedisServer) -> None:
    """The caller gets its default value, as without an observer."""
    operations: list[Any] = []
    connection = connect(server, operations.append)
    assert call(connection, "NONSENSE", "NONSENSE") == [None, None]
    (first,) = named(operations, "NONSENSE")  # the circuit breaker rejects the second one
    assert type(first.error).__name__ == "ResponseError"


def test_command_that_takes_too_long_is_reported_as_a_timeout(server: RedisServer) -> None:
    operations: list[Any] = []
    connection = connect(server, operations.append, redis_timeout_seconds=0.5)
    call(connection, "BLPOP", "BLPOP", "empty", 0)
    assert type(named(operations, "BLPOP")[0].error).__name__ == "TimeoutError"


def test_command_of_a_cancelled_task_is_reported(server: RedisServer) -> None:
    operations: list[Any] = []
    connection = connect(server, operations.append)

    async def cancel() -> None:
        async with connection.lifespan():
            blocked = connection.call("BLPOP", lambda: connection.client.execute_command("BLPOP", "empty", 0), None)
            task = asyncio.create_task(blocked)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancel())
    assert [type(operation.error) for operation in named(operations, "BLPOP")] == [asyncio.CancelledError]


def test_observer_that_fails_does_not_fail_the_command(server: RedisServer, logs: Logs) -> None:
    def fail(operation: Any) -> None:
        raise RuntimeError

    module("chassis.logging.config").configure(settings_for_tests())
    assert call(connect(server, fail), "ECHO", "ECHO", "word") == [b"word", b"word"]
    assert len(logs("operation_observer_failed")) >= 2


def test_connection_without_observers_makes_no_operations(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service without observers must not spend time on them."""
    monkeypatch.setattr(module("chassis.redis"), "Operation", None)
    assert call(connect(server), "ECHO", "ECHO", "word") == [b"word", b"word"]
