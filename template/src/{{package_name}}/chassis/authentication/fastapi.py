"""Scopes of FastAPI routes, which the OpenAPI document shows: `dependencies=[require_scope("notes:write")]`."""

from __future__ import annotations

from typing import Any

from fastapi import Security
from fastapi.security import HTTPBearer, SecurityScopes

from ..request_context import Principal
from . import authorize


class _Bearer(HTTPBearer):
    """Describes the credentials in the OpenAPI document. The middleware has checked them already.

    One dependency describes and authorizes, because each dependency costs FastAPI as much time as the check of a key.
    """

    async def __call__(self, required: SecurityScopes) -> Principal:  # type: ignore[override]  # WebSockets have no request
        return authorize(*required.scopes)


_bearer = _Bearer(scheme_name="bearer", description="An API key or an access token.")


def require_scope(*scopes: str) -> Any:
    """Return a dependency that requires these scopes, or only valid credentials if none is given.

    Add it to the `dependencies` of a route or a router. To use the caller in a handler, declare a parameter
    `caller: Annotated[Principal, require_scope("notes:write")]`.
    """
    return Security(_bearer, scopes=scopes)
