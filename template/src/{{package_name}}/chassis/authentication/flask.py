"""Scopes of Flask views: `@require_scope("notes:write")`, or `blueprint.before_request(require_scope())` for all."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from . import authorize


def require_scope(*scopes: str) -> Callable[..., Any]:
    """Return a decorator for a view that requires these scopes, or only valid credentials if none is given.

    Place it below the decorator of the router. It is also a hook for `before_request` of a blueprint.
    """

    def decorate(view: Callable[..., Any] | None = None) -> Any:
        if view is None:  # Flask calls a hook without arguments
            authorize(*scopes)
            return None

        @wraps(view)
        def authorized(*args: Any, **kwargs: Any) -> Any:
            authorize(*scopes)
            return view(*args, **kwargs)

        return authorized

    return decorate
