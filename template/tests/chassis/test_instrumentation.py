"""Operations: each call to a dependency is reported once, however it ends, and no observer can break the call."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from ..package import module
from .conftest import Logs, settings_for_tests

instrumentation = module("chassis.instrumentation")
Operation = instrumentation.Operation


@pytest.mark.parametrize("error", [None, KeyError("key"), asyncio.CancelledError(), SystemExit(1)], ids=repr)
def test_operation_is_reported_once_with_its_duration_and_error(error: BaseException | None) -> None:
    """The caller still gets the error. A cancellation is also an error of the operation."""
    seen: list[Any] = []
    operation = Operation("db", "SELECT", {})
    with suppress(BaseException), instrumentation.observed(operation, [seen.append]):
        assert seen == []
        if error is not None:
            raise error
    assert seen == [operation]
    assert operation.error is error
    assert operation.duration_seconds > 0


def test_observer_that_fails_changes_neither_the_call_nor_the_other_observers(logs: Logs) -> None:
    """The failure is logged."""
    module("chassis.logging.config").configure(settings_for_tests())
    seen: list[Any] = []

    def fail(operation: Any) -> None:
        raise RuntimeError("the observer failed")

    with instrumentation.observed(Operation("http", "GET", {}), [fail, seen.append]):
        pass
    with pytest.raises(KeyError), instrumentation.observed(Operation("http", "GET", {}), [fail, seen.append]):
        raise KeyError
    assert [type(operation.error) for operation in seen] == [type(None), KeyError]
    assert len(logs("operation_observer_failed")) == 2


def test_operations_have_their_own_ids() -> None:
    """The dependency receives the id as the parent of its spans (W3C Trace Context, 3.2.2.4)."""
    ids = [Operation("db", "SELECT", {}).span_id for _ in range(100)]
    assert len(set(ids)) == 100
    assert {len(span_id) for span_id in ids} == {16}


def test_counter_with_unlimited_attributes_has_limited_memory() -> None:
    """Combinations above the limit are counted together."""
    instrumentation = module("chassis.instrumentation")
    counter = instrumentation.Counter("owner.limited", "Events.")
    instrumentation._counters.remove(counter)
    for number in range(instrumentation.MAX_COUNTS + 100):
        counter.add(user=str(number))
    measured = list(counter.measure())
    assert len(measured) == instrumentation.MAX_COUNTS + 1
    assert {"user": "_OTHER"} in [measurement.attributes for measurement in measured if measurement.value == 100]
