"""Warns when a block of code takes longer than it should."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

import structlog

log = structlog.get_logger(__name__)

F = TypeVar("F", bound=Callable[..., Any])


@contextmanager
def slow_operation(name: str, *, threshold_ms: float, **fields: object) -> Iterator[None]:
    """Log `slow_operation` as a warning when the block takes longer than `threshold_ms` milliseconds.

    Example: `with slow_operation("import_prices", threshold_ms=500): ...`, in synchronous and asynchronous code.
    """
    began = time.perf_counter()
    try:
        yield
    finally:
        duration_ms = (time.perf_counter() - began) * 1000
        if duration_ms > threshold_ms:
            log.warning(
                "slow_operation",
                operation=name,
                duration_ms=round(duration_ms, 3),
                threshold_ms=threshold_ms,
                **fields,
            )


def warn_when_slow(threshold_ms: float, *, name: str | None = None) -> Callable[[F], F]:
    """Decorate a function, synchronous or asynchronous, with `slow_operation`."""

    def decorate(function: F) -> F:
        label = name or function.__qualname__

        @wraps(function)
        def synchronous(*args: Any, **kwargs: Any) -> Any:
            with slow_operation(label, threshold_ms=threshold_ms):
                return function(*args, **kwargs)

        @wraps(function)
        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            with slow_operation(label, threshold_ms=threshold_ms):
                return await function(*args, **kwargs)

        return cast(F, asynchronous if iscoroutinefunction(function) else synchronous)

    return decorate
