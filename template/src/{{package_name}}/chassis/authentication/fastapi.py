"""Scopes of FastAPI routes, which the OpenAPI document shows: `dependencies=[require_scope("notes:write")]`.

`ScopedRoute` relies on `_effective_route_context_var` of FastAPI, which is not documented API. pyproject.toml has an
upper bound for fastapi.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response, Security
from fastapi.routing import APIRoute, _effective_route_context_var
from fastapi.security import HTTPBearer, SecurityScopes

from ..request_context import Principal
from . import authorize


class _Bearer(HTTPBearer):
    """Describes the credentials in the OpenAPI document. The middleware has checked them already."""

    async def __call__(self, required: SecurityScopes) -> Principal:  # type: ignore[override]  # WebSockets have no request
        return authorize(*required.scopes)


_including_context = _effective_route_context_var.get
_bearer = _Bearer(scheme_name="bearer", description="An API key or an access token.")


def require_scope(*scopes: str) -> Any:
    """Return a dependency that requires these scopes, or only valid credentials if none is given.

    Add it to the `dependencies` of a route or a router. To use the caller in a handler, declare a parameter
    `caller: Annotated[Principal, require_scope("notes:write")]`.
    """
    return Security(_bearer, scopes=scopes)


class ScopedRoute(APIRoute):
    """A route that checks the scopes in its `dependencies` before FastAPI reads the body and calls other dependencies.

    Use it as the `route_class` of a router. FastAPI needs more CPU time to call a dependency than the check of the
    credentials takes.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        # In an included router, FastAPI gives a route a context with the dependencies of all routers around it.
        included = _including_context()
        route: Any = self if included is None or included.original_route is not self else included
        required = [item for item in route.dependencies if item.dependency is _bearer]
        if not required:
            return super().get_route_handler()
        # Only the handler does without these dependencies. The document, and a copy of the route, need them.
        declared = route.dependant
        route.dependant = copy.copy(declared)
        route.dependant.dependencies = [item for item in declared.dependencies if item.call is not _bearer or item.name]
        handle = super().get_route_handler()
        route.dependant = declared
        scopes = tuple(dict.fromkeys(scope for item in required for scope in item.scopes))

        async def authorized(request: Request) -> Response:
            authorize(*scopes)
            return await handle(request)

        return authorized
