"""Reports each statement to the observers of operations, for metrics and traces.

SQLAlchemy calls the events `do_execute` and `do_executemany` semi-public. The usual `before_cursor_execute` and
`after_cursor_execute` cost 12 µs per statement instead of 3, and miss errors that another listener replaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, event

from ..instrumentation import Operation, OperationObserver, observed

_NAMES = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "CREATE", "ALTER", "DROP"})


def observe_statements(engine: Engine, observers: Sequence[OperationObserver]) -> None:
    """Report the statements of an engine, without the values of their parameters."""
    system, namespace = engine.dialect.name, str(engine.url.database or "")
    common: dict[str, str | int] = {"db.system.name": system, "db.namespace": namespace}

    def observe(method: str) -> None:
        @event.listens_for(engine, method)
        def _(cursor: Any, statement: str, values: Any, context: Any) -> bool:
            name = _name(statement)
            attributes = {**common, "db.operation.name": name, "db.query.text": statement}
            with observed(Operation("db", name, attributes), observers):
                getattr(context.dialect, method)(cursor, statement, values, context)
            return True  # the statement has been executed

    observe("do_execute")
    observe("do_executemany")


def _name(statement: str) -> str:
    word = statement.lstrip()[:6].upper()
    return next((name for name in _NAMES if word.startswith(name)), "OTHER")
