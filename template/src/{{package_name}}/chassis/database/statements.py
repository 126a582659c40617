"""Reports each statement to the observers of operations, for metrics and traces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, ExceptionContext, event

from ..instrumentation import Operation, OperationObserver, end

_NAMES = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "CREATE", "ALTER", "DROP"})


def observe_statements(engine: Engine, observers: Sequence[OperationObserver]) -> None:
    """Report the statements of an engine. The values of their parameters are not reported."""
    system, namespace = engine.dialect.name, str(engine.url.database or "")
    common: dict[str, str | int] = {"db.system.name": system, "db.namespace": namespace}

    @event.listens_for(engine, "before_cursor_execute")
    def _(_connection: Any, _cursor: Any, statement: str, _values: Any, context: Any, _many: bool) -> None:
        word = statement.lstrip()[:6].upper()
        name = next((known for known in _NAMES if word.startswith(known)), "OTHER")
        attributes = {**common, "db.operation.name": name, "db.query.text": statement}
        context.operation = Operation("db", name, attributes)

    @event.listens_for(engine, "after_cursor_execute")
    def _(_connection: Any, _cursor: Any, _statement: str, _values: Any, context: Any, _many: bool) -> None:
        end(context.operation, observers)

    @event.listens_for(engine, "handle_error")
    def _(failed: ExceptionContext) -> None:
        operation = getattr(failed.execution_context, "operation", None)
        if operation is not None:
            operation.error = failed.original_exception
            end(operation, observers)
