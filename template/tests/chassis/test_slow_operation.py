"""`slow_operation` and `warn_when_slow`: a warning when a block takes longer than said."""

from __future__ import annotations

import asyncio
import inspect
import time

import pytest

from ..package import module
from .conftest import Logs, Start

slow = module("chassis.slow_operation")


@pytest.fixture(autouse=True)
def _started(start: Start) -> None:
    start()


def test_a_block_that_takes_too_long_is_warned_about(logs: Logs) -> None:
    """With its name, how long it took, how long it may take, and fields of your own."""
    with slow.slow_operation("import_prices", threshold_ms=1, source="bank"):
        time.sleep(0.005)
    (line,) = logs("slow_operation")
    assert (line["level"], line["operation"], line["threshold_ms"], line["source"]) == (
        "warning", "import_prices", 1, "bank",
    )  # fmt: skip
    assert line["duration_ms"] >= 5


def test_a_fast_block_is_not(logs: Logs) -> None:
    """Nothing is logged."""
    with slow.slow_operation("import_prices", threshold_ms=10_000):
        pass
    assert logs("slow_operation") == []


def test_a_block_that_fails_is_judged_too(logs: Logs) -> None:
    """The exception goes on its way."""
    with pytest.raises(KeyError), slow.slow_operation("import_prices", threshold_ms=0):
        raise KeyError
    assert len(logs("slow_operation")) == 1


def test_it_works_in_asynchronous_code(logs: Logs) -> None:
    """The time spent waiting counts."""

    async def work() -> None:
        with slow.slow_operation("import_prices", threshold_ms=1):
            await asyncio.sleep(0.005)

    asyncio.run(work())
    assert len(logs("slow_operation")) == 1


def test_it_decorates_a_function(logs: Logs) -> None:
    """The operation is called like the function, unless it is given a name; the function keeps its own."""

    @slow.warn_when_slow(0)
    def add(a: int, b: int) -> int:
        return a + b

    @slow.warn_when_slow(0, name="adding")
    def add_more(a: int) -> int:
        return a + 1

    assert (add(1, b=2), add_more(1)) == (3, 2)
    assert add.__name__ == "add"
    assert [line["operation"].rpartition(".")[2] for line in logs("slow_operation")] == ["add", "adding"]


def test_it_decorates_a_coroutine_function(logs: Logs) -> None:
    """Its running is measured, not its making."""

    @slow.warn_when_slow(1)
    async def wait() -> str:
        await asyncio.sleep(0.005)
        return "done"

    assert inspect.iscoroutinefunction(wait)
    assert asyncio.run(wait()) == "done"
    assert len(logs("slow_operation")) == 1
