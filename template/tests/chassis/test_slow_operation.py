"""`slow_operation` and `warn_when_slow`: a warning if a block takes longer than its threshold."""

from __future__ import annotations

import asyncio
import inspect
import time

import pytest

from ..package import module
from .conftest import Logs, Start

slow = module("chassis.logging.slow_operation")


@pytest.fixture(autouse=True)
def _started(start: Start) -> None:
    start()


def test_block_over_its_threshold_is_logged_as_a_warning(logs: Logs) -> None:
    """The warning has the name, the duration, the threshold and the caller's fields."""
    with slow.slow_operation("import_prices", threshold_ms=1, source="bank"):
        time.sleep(0.005)
    (entry,) = logs("slow_operation")
    assert (entry["level"], entry["operation"], entry["threshold_ms"], entry["source"]) == (
        "warning", "import_prices", 1, "bank",
    )  # fmt: skip
    assert entry["duration_ms"] >= 5


def test_block_below_its_threshold_is_not_logged(logs: Logs) -> None:
    with slow.slow_operation("import_prices", threshold_ms=10_000):
        pass
    assert logs("slow_operation") == []


def test_block_that_raises_is_timed_too(logs: Logs) -> None:
    """The exception is raised to the caller."""
    with pytest.raises(KeyError), slow.slow_operation("import_prices", threshold_ms=0):
        raise KeyError
    assert len(logs("slow_operation")) == 1


def test_asynchronous_block_is_timed_with_its_waits(logs: Logs) -> None:

    async def work() -> None:
        with slow.slow_operation("import_prices", threshold_ms=1):
            await asyncio.sleep(0.005)

    asyncio.run(work())
    assert len(logs("slow_operation")) == 1


def test_decorated_function_is_timed_under_its_name(logs: Logs) -> None:
    """The caller may choose another name. The function keeps its own name."""

    @slow.warn_when_slow(0)
    def add(a: int, b: int) -> int:
        return a + b

    @slow.warn_when_slow(0, name="adding")
    def add_more(a: int) -> int:
        return a + 1

    assert (add(1, b=2), add_more(1)) == (3, 2)
    assert add.__name__ == "add"
    assert [entry["operation"].rpartition(".")[2] for entry in logs("slow_operation")] == ["add", "adding"]


def test_decorated_coroutine_function_is_timed_until_it_returns(logs: Logs) -> None:

    @slow.warn_when_slow(1)
    async def wait() -> str:
        await asyncio.sleep(0.005)
        return "done"

    assert inspect.iscoroutinefunction(wait)
    assert asyncio.run(wait()) == "done"
    assert len(logs("slow_operation")) == 1
