"""The data that features offer to monitoring: numbers that are read at each scrape, and calls to dependencies.

Names and attributes follow OpenTelemetry's semantic conventions (https://opentelemetry.io/docs/specs/semconv/).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import structlog

from .request_context import new_span_id

log = structlog.get_logger(__name__)

# The standard methods (RFC 9110, RFC 5789). A client may send any other, so monitoring calls all others OTHER.
HTTP_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
OTHER = "_OTHER"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number of a feature, such as the connections in use.

    Args:
        name: The name, with dots and without a unit, such as `db.client.connection.count`.
        description: One sentence, which Prometheus shows as help.
        value: The number. A counter only grows.
        attributes: Attributes that distinguish it from others of this name. Each must have few different values.
        unit: `s` for seconds, `By` for bytes, or empty for a count.
        kind: Whether it is a gauge or a counter.
    """

    name: str
    description: str
    value: float
    attributes: Mapping[str, str] = field(default_factory=dict)
    unit: Literal["", "s", "By"] = ""
    kind: Literal["gauge", "counter"] = "gauge"


# Called on the event loop whenever the numbers are read. It must not block.
MeasurementSource = Callable[[], Iterable[Measurement] | Awaitable[Iterable[Measurement]]]


_counters: list[Counter] = []
# The maximum number of combinations per counter. Further ones are counted together, as `_OTHER`.
MAX_COUNTS = 2000


class Counter:
    """Counts your events, for any kind of monitoring. Create it once, as a constant of a module.

    `ORDERS = Counter("orders", "Orders accepted.")`, then `ORDERS.add()` or `ORDERS.add(payment="card")`. Each
    combination of attributes is stored separately, so use few values: no ids and no text that a client sent. Only the
    first 2000 combinations are distinguished.
    """

    def __init__(self, name: str, description: str) -> None:
        self._name = name
        self._description = description
        self._lock = threading.Lock()
        self._counts: dict[tuple[tuple[str, str], ...], int] = {}
        _counters.append(self)

    def add(self, count: int = 1, **attributes: str) -> None:
        key = tuple(sorted(attributes.items()))
        with self._lock:
            if key not in self._counts and len(self._counts) >= MAX_COUNTS:
                key = tuple((name, OTHER) for name in sorted(attributes))
            self._counts[key] = self._counts.get(key, 0) + count

    def measure(self) -> Iterator[Measurement]:
        for key, count in (self._counts.copy() or {(): 0}).items():
            yield Measurement(self._name, self._description, count, dict(key), kind="counter")


def measure_counters() -> Iterator[Measurement]:
    """Return the counts of this process."""
    for counter in _counters:
        yield from counter.measure()


@dataclass(slots=True)
class Operation:
    """One call to a dependency: a statement, a command of Redis, or one attempt of a call to another service.

    Args:
        kind: `db` for a database or Redis, `http` for another service.
        name: The operation without values, such as `SELECT` or `GET`.
        attributes: OpenTelemetry's attributes of the call. A statement contains placeholders instead of values.
        span_id: The id that the dependency gets as its parent (W3C Trace Context, 3.2).
    """

    kind: Literal["db", "http"]
    name: str
    attributes: dict[str, str | int]
    span_id: str = field(default_factory=new_span_id)
    started: float = field(default_factory=time.perf_counter)
    duration_seconds: float = 0.0
    error: BaseException | None = None


# Called once when an operation has ended, in the task or thread that called the dependency. It must not block.
OperationObserver = Callable[[Operation], None]


def end(operation: Operation, observers: Sequence[OperationObserver]) -> None:
    """Record the duration of an operation and call the observers."""
    operation.duration_seconds = time.perf_counter() - operation.started
    for observe in observers:
        try:
            observe(operation)
        except Exception:
            log.exception("operation_observer_failed")


@contextmanager
def observed(operation: Operation, observers: Sequence[OperationObserver]) -> Iterator[None]:
    """Run a block as one operation: `with observed(operation, chassis.operation_observers): ...`."""
    try:
        yield
    except BaseException as error:
        operation.error = error
        raise
    finally:
        end(operation, observers)
